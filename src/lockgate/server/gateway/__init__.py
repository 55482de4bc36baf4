"""The server side of the tunnels, over the edge link.

Nouns: the *link* (`edge_client`) is the connection to the edge; the *gateway* (`service`) answers what it
reports and ends sessions; the *entrance* (`entrance`) leads one connection (`connection`) from its first frame
to its tunnel; a *tunnel* (`tunnel`, all of them in `tunnels`) is a session that the edge holds; its *terms*
(`terms`) are what its roles and its client's abilities give. Rules, addresses and time limits come from
`sessions` and `in_force`; packets never come here.
"""
