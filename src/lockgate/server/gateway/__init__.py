"""The server side of the tunnels, over the edge link.

Nouns: the *link* (`edge_client`) is the connection to the edge; the *gateway* (`service`) knows which
sessions and connections live in the edge and answers what it reports; a *tunnel* (`tunnel`) is one IF-T
connection, from the sign-in conversation to the logout. Rules, addresses and time limits come from
`sessions` and `policy`; packets never come here.
"""
