"""The control plane: decisions, conversations and persistence of the gateway.

`config`    the one typed configuration tree, its drafts and revisions; `in_force` is what counts now
`store`     what survives a restart, behind small interfaces
`auth`      sign-in conversations, local users, the guard against guessing
`sessions`  session life: addresses, limits, deadlines
`gateway`   the edge link: tunnels, ends, how long they take; `follow` brings live sessions up to date
`web`       REST, console and portal
`decisions`  what was decided about people, with support codes; `explanations` and `own_questions` ask again
`user_records`  what users keep in the portal; `record_peers` exchanges it with other gateways
`audit`     who did what, in the database and in the log
`parts`     all of these made and tied together
`datadir`   where all of it lives on disk; `setup` makes one, `pki` its certificates

Packets never come here; the edge (`dataplane/`) carries them.
"""
