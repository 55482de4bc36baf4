"""The conversation inside IF-T that `openconnect --protocol=pulse` speaks, server side.

`server.ServerConversation` takes the frames of one connection and returns `events`; its commands queue
frames. `questions` says what is asked and what an answer must hold, `config` and `esp_keys` are
the two messages that set up a tunnel, `codes` the numbers. Who decides (users, sessions, addresses)
is not known here.
"""
