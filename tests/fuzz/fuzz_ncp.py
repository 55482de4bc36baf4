"""Network Connect payloads: what a client sends, and the configuration as a client reads it."""

from lockgate.protocol.errors import PeerError, UsageError
from lockgate.protocol.if_t import Frame
from lockgate.protocol.ncp.config import decode_config, encode_config
from lockgate.protocol.ncp.messages import (
    KmpKind,
    decode_keys,
    decode_options,
    encode_keys,
    encode_options,
)
from lockgate.protocol.ncp.server import ServerConversation
from tests.fuzz import harness


def one_input(data: bytes) -> None:
    try:
        keys = decode_keys(data)
    except PeerError:
        pass
    else:
        assert decode_keys(encode_keys(keys)) == keys
    try:
        options = decode_options(data)
    except PeerError:
        pass
    else:
        assert decode_options(encode_options(options)) == options
    _configuration(data)
    for kind in KmpKind:
        try:
            ServerConversation.in_tunnel().receive(Frame(0, kind, data))
        except PeerError:
            continue


def _configuration(data: bytes) -> None:
    try:
        config, keys = decode_config(data)
    except PeerError:
        return
    try:
        again = encode_config(config, keys)
    except UsageError:
        return  # larger than we would ever say it
    read, read_keys = decode_config(again)
    assert read_keys == keys
    # Of more servers than clients keep only those are said.
    assert read.dns == config.dns[:3]
    assert (read.address4, read.mtu, read.include, read.exclude, read.esp) == (
        config.address4,
        config.mtu,
        config.include,
        config.exclude,
        config.esp,
    )


if __name__ == "__main__":
    harness.main("ncp")
