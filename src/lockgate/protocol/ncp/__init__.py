"""The tunnel that `openconnect --protocol=nc` speaks: Network Connect ("oNCP"), as its server sees it.

    server.ServerConversation   what the client says in the tunnel, and what is said to it
    config                      KMP 301: addresses, routes, DNS, MTU, the ESP offer and the keys for it
    messages                    the other KMP messages, and their numbers
    tlv                         the form of all of them: groups of attributes

The edge does HTTP, cuts the stream into records and KMP messages and carries the packets (KMP 300); here
are the payloads. A client signs in with HTML forms before (`server.web.network_connect`) and comes with a
cookie. What a tunnel is told, its keys and its events are those of `pulse`, as far as this protocol has
words for them; it has none for IPv6.
"""
