"""Ground floor: bytes in, typed values out.

`if_t` cuts the stream of a connection into frames; `pulse.server.ServerConversation` and
`pulse.client.ClientConversation` take the frames of one connection and answer with frames and events;
`eap` and `avp` are the encodings inside them, `pulse.config` and `pulse.esp_keys` what follows a
sign-in. `ncp` is the other protocol of the field, `cookie_header` what its clients show. `edge_link`
holds the messages between a control plane and its edge. `gateway_url` reads what a person types to say
where a gateway is, `http_connect` asks a proxy for the way there. Nothing here opens sockets or files,
reads clocks, starts threads or makes random numbers, and nothing imports from the floors above.
"""
