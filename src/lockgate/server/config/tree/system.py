"""System: where the gateway listens, what it is called, its certificates, limits, logs and cluster."""

from __future__ import annotations

from typing import Annotated, Literal

from lockgate.server.config.tree.fields import (
    DAY,
    Guid,
    Named,
    SecretText,
    Section,
    choice,
    number,
    objects,
    secret,
    setting,
    switch,
    text,
)
from lockgate.server.config.values import (
    Address,
    EndpointText,
    FromList,
    HostName,
    NetworkText,
    TunName,
    parse_endpoint,
    parse_network,
)


class Gateway(Section):
    """Where clients and administrators connect."""

    hostname: HostName = setting(
        ..., "Name under which clients reach this gateway.", "a DNS name or an IP address"
    )
    listen: Annotated[tuple[EndpointText, ...], FromList] = setting(
        (parse_endpoint("0.0.0.0:443"), parse_endpoint("[::]:443")),
        "Where clients connect (TCP; ESP uses the same addresses). 0.0.0.0 and [::] are all addresses.",
        'a list of 1 to 32 texts "ADDRESS:PORT", IPv6 addresses in brackets',
        min_length=1,
        max_length=32,
    )
    admin_listen: EndpointText = setting(
        parse_endpoint("127.0.0.1:8443"),
        "Where the administrators' console and interface listen.",
        '"ADDRESS:PORT", IPv6 addresses in brackets',
    )
    tls_minimum: Literal["1.2", "1.3"] = setting("1.2", "Oldest TLS version accepted.", '"1.2" or "1.3"')
    client_certificates: Literal["off", "ask"] = setting(
        "off", "Whether clients are asked for a certificate when they connect.", '"off" or "ask"'
    )
    network_connect: bool = setting(
        True,
        "Whether clients of the older Network Connect protocol (IPv4 only) may sign in; those connected stay.",
        "true or false",
    )

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Of all listeners, those of administrators included."""
        return tuple(endpoint.address for endpoint in (*self.listen, self.admin_listen))


class Esp(Section):
    """The fast path: ESP in UDP. Without it, or where UDP is blocked, packets use TLS."""

    enabled: bool = setting(True, "Offer ESP to clients.", "true or false")
    port: int = number(4500, "UDP port on every listening address.", 1, 65535)
    cipher: Literal["aes-256-cbc", "aes-128-cbc"] = setting(
        "aes-256-cbc", "Cipher for clients that cannot do AES-GCM.", '"aes-256-cbc" or "aes-128-cbc"'
    )
    hmac: Literal["sha256", "sha1"] = setting(
        "sha256", "Integrity check that goes with it.", '"sha256" or "sha1"'
    )
    own_cipher: Literal["aes-128-gcm", "aes-256-gcm", "off"] = setting(
        "aes-128-gcm",
        "Cipher for Lockgate's own client; off gives it the same as other clients.",
        '"aes-128-gcm", "aes-256-gcm" or "off"',
    )
    rekey_seconds: int = number(1200, "Age at which keys are replaced.", 10, DAY, "seconds")
    fallback_seconds: int = number(
        15, "Silence after which a side goes back to TLS (at twice this).", 1, 3600, "seconds"
    )


class ClientNetworks(Section):
    """The networks behind the tunnel interface. Changes need a restart of the server."""

    pools: Annotated[tuple[NetworkText, ...], FromList] = setting(
        (parse_network("10.88.0.0/16"),),
        "Networks that client addresses come from; the first host of each is the gateway's own.",
        "a list of 1 to 16 networks such as 10.88.0.0/16 or fd12:3456:789a::/64; "
        "at least a /30 (IPv4) or /126 (IPv6) each",
        min_length=1,
        max_length=16,
    )
    mtu: int = number(
        1400, "Largest packet inside any tunnel; at least 1280 with an IPv6 pool.", 576, 9000, "bytes"
    )
    tun_name: TunName = setting(
        "lockgate0",
        "Name of the gateway's tunnel interface.",
        "1 to 15 letters, digits, dots, dashes or underscores",
    )
    address_quarantine_seconds: int = number(
        30, "Time before a client address is given to somebody else.", 0, DAY, "seconds"
    )


class Limits(Section):
    """What strangers can make the gateway hold."""

    half_open_total: int = number(4096, "Connections that have not signed in, in total.", 16, 1_000_000)
    half_open_per_address: int = number(
        256, "Connections that have not signed in, per address (IPv6: a /64 network).", 1, 1_000_000
    )
    new_connections_per_second: int = number(
        100, "New connections per second and address, in the long run.", 1, 1_000_000
    )
    new_connections_burst: int = number(400, "New connections of an address at once.", 1, 1_000_000)
    sign_in_seconds: int = number(180, "Time to sign in before a connection is closed.", 10, 3600, "seconds")


class TrustedClientCa(Named):
    """A CA whose certificates users may show."""

    certificate: str = text("The CA certificate in PEM.", longest=65536, multiline=True)
    client_authentication: bool = switch(True, "Trusted for client authentication.")


class TrustedServerCa(Named):
    """A CA that vouches for servers which this gateway connects to."""

    certificate: str = text("The CA certificate in PEM.", longest=65536, multiline=True)


class Certificates(Section):
    """Certificates that this gateway trusts. Its own device certificate is managed on its page."""

    trusted_client_cas: Annotated[tuple[TrustedClientCa, ...], FromList] = objects(
        "Trusted client CAs.", most=200
    )
    trusted_server_cas: Annotated[tuple[TrustedServerCa, ...], FromList] = objects(
        "Trusted server CAs.", most=200
    )


class SyslogTarget(Named):
    """A server that gets a copy of the logs (RFC 5424)."""

    address: EndpointText = setting(..., "Where it listens.", '"ADDRESS:PORT", IPv6 addresses in brackets')
    transport: Literal["udp", "tcp"] = choice("udp", "How it is reached.", '"udp" or "tcp"')
    facility: Literal["local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"] = (
        choice("local0", "Facility of its messages.", '"local0" to "local7"')
    )
    events: bool = switch(True, "Sends the events log.")
    user_access: bool = switch(True, "Sends the user access log.")
    admin_access: bool = switch(True, "Sends the admin access log.")
    flows: bool = switch(
        False, "Sends the flows log: a message for every flow, which may be thousands a second."
    )


class Log(Section):
    """What is written down and for how long. The audit is always complete until its age or size is reached."""

    level: Literal["debug", "info", "warning", "error"] = setting(
        "info",
        "Least important messages of the server's own log (standard error, JSON lines).",
        '"debug", "info", "warning" or "error"',
    )
    keep_days: int = number(365, "Age at which audit records are removed; 0 is never.", 0, 36500, "days")
    keep_megabytes: int = number(
        4096, "Size of the audit at which its oldest records are removed; 0 is never.", 0, 1 << 20, "MB"
    )
    flows: Literal["none", "denied", "all"] = choice(
        "denied",
        "Which connections through tunnels are written down, unless a role says otherwise: none; denied: what the "
        "access rules deny; all. A connection takes some 50 bytes, a user with all of them about a megabyte a day. "
        "The addresses that people visit are personal data: choose all only with a reason and for a stated time.",
        '"none", "denied" or "all"',
    )
    flows_keep_days: int = number(
        30,
        "Age at which records of connections are removed; 0 is never. None outlives the audit's own age.",
        0,
        36500,
        "days",
    )
    flows_keep_megabytes: int = number(
        1024,
        "Size of all records of connections at which the oldest are removed; 0 is never. They take no room from the rest "
        "of the audit.",
        0,
        1 << 20,
        "MB",
    )
    decisions_days: int = number(
        30,
        "Time for which recorded decisions can be replayed by what-if and found by support code.",
        1,
        3650,
        "days",
    )
    syslog: Annotated[tuple[SyslogTarget, ...], FromList] = objects(
        "Servers that get a copy of the logs.", most=8
    )


class ClientLogs(Section):
    """Logs that clients write and send to this gateway."""

    upload: bool = switch(True, "Users whose role allows it may upload logs here.")
    max_megabytes: int = number(20, "Largest upload.", 1, 200, "MB")
    keep_days: int = number(30, "Age at which uploads are removed.", 1, 3650, "days")
    keep_total_megabytes: int = number(
        1000, "Room for all uploads; the oldest are removed first.", 1, 1 << 20, "MB"
    )


class Metrics(Section):
    """OpenMetrics at /metrics of the administrators' listener."""

    sources: Annotated[tuple[NetworkText, ...], FromList] = setting(
        (parse_network("127.0.0.1/32"), parse_network("::1/128")),
        "Networks that may read the metrics without a token.",
        "a list of at most 64 networks",
        max_length=64,
    )


class Traces(Section):
    """Where traces go: what a sign-in, a request or a commit was made of, and how long each part took (OTLP/HTTP)."""

    enabled: bool = switch(False, "Traces are exported. Needs the package with its extra `traces`.")
    url: str = setting(
        "",
        "Where the collector takes traces; the path is mostly /v1/traces.",
        "an https:// address, or an http:// one of this machine",
        max_length=300,
    )
    headers: SecretText = secret(
        "Headers that it wants, as name=value, separated by commas; a value is percent-encoded where it has a comma."
    )
    # Ten people who sign in each second make one trace of theirs in two seconds.
    share: int = number(
        5,
        "Share of traces that are recorded. Small gateways can afford all; a busy one fills the collector's disk.",
        1,
        100,
        "percent",
    )
    name_people: bool = switch(
        False,
        "Traces of sign-ins name the user and the address. Without it they have realm and session number.",
    )
    ca: str = text(
        "The CA of the collector's certificate in PEM; empty is the system's store.",
        longest=65536,
        multiline=True,
    )


def _listener() -> str:
    result: str = setting(
        ...,
        "Its administrators' listener.",
        "an https:// address",
        pattern=r"^https://[^\s/]+/?$",
        max_length=300,
    )
    return result


def _ca() -> str:
    result: str = text(
        "The CA of its certificate in PEM; empty is the system's store.", longest=65536, multiline=True
    )
    return result


class PushTarget(Named):
    """Another server that the configuration can be pushed to."""

    url: str = _listener()
    token: SecretText = secret(
        "A token of that server that may write maintenance and all areas that are pushed."
    )
    ca: str = _ca()


class RecordPeer(Named):
    """Another gateway that user records are exchanged with."""

    url: str = _listener()
    token: SecretText = secret("A token of that gateway with the scope user_records:write and none else.")
    ca: str = _ca()


class UserRecords(Section):
    """Bookmarks and preferences of users whose auth server has User Record Synchronization, at all gateways alike."""

    interval_seconds: int = number(
        15,
        "How often another gateway is asked for what is new there; what is new here is sent at once.",
        1,
        3600,
        "seconds",
    )
    peers: Annotated[tuple[RecordPeer, ...], FromList] = objects(
        "Gateways that records are exchanged with. One of two is enough to know the other.", most=32
    )


class Cluster(Section):
    """What this server and its group are called."""

    server_id: Guid = setting(
        ...,
        "Identity of the configuration that clients are bound to. Exported and pushed with it, so that all "
        "servers of one origin may update the same clients.",
        "32 hexadecimal digits",
    )
    cluster_name: str = text("Name of the group of servers.", longest=64)
    node_name: str = text("Name of this server in logs and console; empty is its host name.", longest=64)
