"""The `lockgate` command.

`main`         the list of commands; `lazy` imports one when it is called, so that help is quick
`output`       what all commands share: `--json`, errors without a traceback; `plain` makes texts of others safe
`init`, `user`, `config`, `server`           the gateway's commands
`connect`      options in, request out; `foreground` then runs the connection between the client service,
               `terminal` (keys, screen, signals) and `questions`, which a `person` answers
`connections`  status, details, disconnect …; `details` puts a connection into words
`client`       the client service's own commands
"""
