"""The conversation inside IF-T that `openconnect --protocol=pulse` speaks, from both ends.

    server.ServerConversation                      client.ClientConversation
      events                what the peer did        client_events
      questions             the steps of a sign-in   client_questions
      client_facts          who the client is        client_introduction

A conversation takes the frames of one connection and returns events; its commands queue frames.
`config` and `esp_keys` are the two messages that set up a tunnel, `codes` the numbers, `extensions`
what only Lockgate says to Lockgate. Who decides (users, sessions, addresses) is not known here.
"""
