"""A tunnel's place in a Linux machine: its device, routes, firewall, DNS, and the sockets that go around it.

`network` puts a plan (`client.plan`) in place, in an order that leaves no hole, with `routes` and `firewall`
for its two halves and `dns` for names. `journal` holds what was changed, written before it is changed, and
`reset` undoes everything from it with nothing else running. `facts` reads what a plan depends on, `monitor`
tells when the machine changes and whether a plan is still in place. `tun`, `sockets` and `resolve` give the
service what its packet process is handed: the device and connected, marked sockets.

Nothing here decides what belongs in the tunnel: the plan does. No call blocks the event loop.
"""
