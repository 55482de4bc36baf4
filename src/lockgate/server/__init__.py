"""The control plane: decisions, conversations and persistence of the gateway.

`config`    the one typed configuration tree and its file
`store`     what survives a restart, behind small interfaces
`auth`      sign-in conversations, local users, the guard against guessing
`sessions`  session life: addresses, limits, deadlines
`audit`     who did what, in the database and in the log
`datadir`   where all of it lives on disk; `setup` makes one, `pki` its certificates

Packets never come here; the edge (`dataplane/`) carries them.
"""
