"""The configuration: one tree, its drafts and revisions.

`tree`      pydantic models: every setting with its meaning, unit, default and what is allowed
`values`    the small types settings are made of (endpoint, network, port range …), parsed once
`defaults`  the tree of a new gateway
`seed`      config.toml, the file of the first start

`schema`    the shape of the tree: sections, collections, hints
`paths`     "roles/Staff/session/idle_seconds": read and change what stands there; `edits` are such changes as data
`changes`   what differs between two trees; `merge` brings the changes of two people together, or names the conflict
`bounds`    how large and deep a document may be
`checks`    any JSON value → tree, or every finding; `judges` know what no single setting can
`registry`  the settings pages: menu path, path in the tree, area of administration
`sealing`   secrets on their way into the store
`transfer`  the document of export, import and push
`compile`   tree → policy

`revision`  a committed tree, and the record of it
`service`   the tree in force, drafts (`drafts`), commits and revisions: what REST, console and commands call
`current`   the tree that a server starts with
`push`      the tree, or parts of it, to other servers

Whatever enters is judged whole before anything changes; nothing changes the tree in force but a commit, which is
one transaction. Secrets in a tree are sealed; nothing here shows one.
"""
