"""`python -m tests.bench`, inside the lab: what the gateway reaches, beside raw veth and ocserv in the same run.

A *peer* is something a TCP stream runs through (raw veth, our gateway or ocserv in one of their modes); a
*round* measures every peer once, and the figures are medians over rounds, so that load from elsewhere hits all
of them alike. Sign-ins, resumptions and memory per session are measured with `lockgate-load` (dataplane/load).
A row that fails is reported with its reason and the others go on.
"""
