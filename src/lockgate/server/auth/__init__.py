"""Who somebody is: sign-in conversations over local users.

`sign_in`    the conversation: notice, credentials, session choice, outcome
`service`    makes conversations and holds what they share
`guard`      against guessing: who may try now
`passwords`  argon2id in a bounded pool of threads
`names`      one canonical form of every user name

Nothing here knows how a prompt is shown, and only `sign_in` makes an `Identity`.
"""
