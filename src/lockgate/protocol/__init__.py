"""Ground floor: bytes in, typed values out.

`if_t` cuts the stream of a client into frames; `pulse.server.ServerConversation` takes the frames of
one connection and answers with frames and events; `eap` and `avp` are the encodings inside
them, `pulse.config` and `pulse.esp_keys` what follows a sign-in. `edge_link` holds the messages
between the control plane and the edge. Nothing here opens sockets or files, reads clocks, starts
threads or makes random numbers, and nothing imports from the floors above.
"""
