"""The `lockgate` command.

`main`    the list of commands; `lazy` imports one when it is called, so that help is quick
`output`  what all commands share: `--json`, errors without a traceback
`init`, `user`, `config`, `server_run` …  the commands
"""
