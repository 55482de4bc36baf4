"""Who somebody is: sign-in conversations over auth servers.

`sign_in`         the conversation: URL, notices, one part after the other, outcome
`credentials`     its part about realm, name and password
`new_password`    its part about a password that must change
`roles`           its part about roles, and a choice of them
`room`            its part about too many sessions
`attempt`         what those parts share, and pass on
`service`         makes conversations and holds what they share
`request`         what a sign-in begins with
`servers`         auth servers behind one Protocol; the gateway's own users
`password_check`  one password, checked under the guard's eyes
`guard`           against guessing: who may try now
`passwords`       argon2id in a bounded pool of threads
`certificates`    which client certificates are believed, and what they say
`names`           one canonical form of every user name

Nothing here knows how a prompt is shown, and only `sign_in` makes an `Identity`.
"""
