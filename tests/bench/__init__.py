"""`python -m tests.bench`, inside the lab: what Lockgate reaches beside other VPNs, in one run on one machine.

A *peer* is something that carries packets from client to intranet: raw veth, our gateway with our client or with
openconnect, wireguard-go, openvpn, ocserv. It opens a *way*, and `measure` takes all figures of one way. A *round*
measures every peer once, and what is shown are medians over rounds, so that load from elsewhere hits all of them
alike. `targets` says what ours is to reach beside which peer; `tables` and `plot` show it.

Sign-ins, resumptions and memory per session are measured with `lockgate-load`, datagrams and long paths with
`lockgate-path` (both in dataplane/load). A row that fails is reported with its reason and the others go on.

`python -m tests.bench.console` is a run of its own: ten thousand sessions, seen by administrators (`browser` is
theirs).
"""
