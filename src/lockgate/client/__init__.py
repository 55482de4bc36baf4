"""The client: what runs on the endpoint, from the command's wish to a tunnel that carries traffic.

A *connection* is one wish to be connected; its state machine is pure and tells the service what to do next.
The *service* (privileged, one a machine) owns connections, the packet process (the *client edge*) and every
change to the machine; *callers*, such as the command line, speak to it over a Unix socket and own nothing.
A *plan* says what the machine must look like for a tunnel: addresses, routes, rules, firewall, DNS. It is
made by a pure function from the gateway's configuration and facts about the machine; `linux` puts it in
place, notices when somebody changes it, and undoes it, after a crash as well.

Nothing here parses packets or opens TLS: the edge does. Nothing here imports the server.
"""
