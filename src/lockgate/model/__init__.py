"""The nouns that client and server share: values without behaviour that needs the outside world.

`problem`      something a person can do something about; `ProblemError` carries it
`identity`     who signed in; only the end of a complete sign-in makes one
`prompt`       what a sign-in conversation asks, and how it ends
`session`      a signed-in user's stay: addresses, deadlines, why it ended
`access_rule`  which packets a session may send, as written and as compiled
`facts`        what is known about somebody who signs in
`policy`       what a revision of the configuration says, ready to decide with
`decision`     a decision and its reasons, as made and as recorded
`expression`   custom expressions as values; `pattern`: texts with *
`text`         text from outside, made safe to print

Nothing here opens, reads, waits or asks the time.
"""
