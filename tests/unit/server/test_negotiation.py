"""Who gets which ESP and which attributes: by what a client announced and what is configured."""

from ipaddress import ip_address

import pytest

from lockgate.model.session import Session
from lockgate.policy.effective import effective
from lockgate.policy.split import split_of
from lockgate.protocol.edge_link import (
    InstallEspIn,
    InstallEspOut,
    OpenSession,
    RekeyWanted,
    Suite,
    Transport,
)
from lockgate.protocol.pulse.config import (
    EspCipher,
    EspHmac,
    EspOffer,
    TunnelConfig,
    decode_config,
    encode_config,
)
from lockgate.protocol.pulse.esp_keys import decode_offer
from lockgate.protocol.pulse.extensions import (
    CAPABILITIES,
    ESP_CROSS,
    ESP_GCM,
    ESP_PROBE,
    RESUME_PROOF,
    SESSION_OPTIONS,
    SPLIT_NETWORKS,
)
from lockgate.server.config.compile import compile_policy
from lockgate.server.gateway.terms import terms_of, tunnel_config
from tests.unit.protocol.openconnect_frames import KEYS, KEYS_ANSWER
from tests.unit.server.control_subject import tree
from tests.unit.server.gateway_subject import END_OF_CONFIG, state_of, subject
from tests.unit.server.scripted_edge import OwnClient, Visitor, eventually
from tests.unit.server.support import CLIENT, run

CBC, CBC1 = Suite.AES256_CBC_SHA256, Suite.AES128_CBC_SHA1
GCM128, GCM256 = Suite.AES128_GCM, Suite.AES256_GCM
SHA256 = (EspCipher.AES256_CBC, EspHmac.SHA256)
SHA1 = (EspCipher.AES128_CBC, EspHmac.SHA1)
OLD = {"cipher": "aes-128-cbc", "hmac": "sha1"}

TABLE = [
    # announced, [esp], suite, (cipher, HMAC) on the wire, cross family, extended
    ("", {}, CBC, SHA256, False, False),
    ("", OLD, CBC1, SHA1, False, False),
    ("", {"own_cipher": "aes-256-gcm"}, CBC, SHA256, False, False),
    ("esp-gcm", {}, GCM128, (EspCipher.AES128_GCM, EspHmac.NONE), False, False),
    ("esp-gcm", OLD, GCM128, (EspCipher.AES128_GCM, EspHmac.NONE), False, False),
    ("esp-gcm", {"own_cipher": "aes-256-gcm"}, GCM256, (EspCipher.AES256_GCM, EspHmac.NONE), False, False),
    ("esp-gcm", {"own_cipher": "off"}, CBC, SHA256, False, False),
    ("esp-gcm", {"own_cipher": "off", **OLD}, CBC1, SHA1, False, False),
    ("esp-cross", {}, CBC, SHA256, True, False),
    ("esp-probe", {}, CBC, SHA256, False, True),
    ("resume-proof", {}, CBC, SHA256, False, False),
    ("session-options", {}, CBC, SHA256, False, False),
    ("split-networks", {}, CBC, SHA256, False, False),
    ("all", {}, GCM128, (EspCipher.AES128_GCM, EspHmac.NONE), True, True),
    ("all", {"enabled": False}, None, None, False, False),
]  # fmt: skip


def configured(esp, **vpn):
    return tree(esp=esp, roles=[{"name": "Users", "vpn": vpn}])


@pytest.mark.parametrize(("announced", "esp", "suite", "wire", "cross", "extended"), TABLE)
def test_who_gets_what(tmp_path, announced, esp, suite, wire, cross, extended):
    capabilities = CAPABILITIES if announced == "all" else filter(None, [announced])

    async def work():
        async with subject(tmp_path, configuration=configured(esp)) as it, it.serving() as edge:
            client = OwnClient(edge, 1, capabilities=capabilities)
            await client.enter((await it.open()).cookie)
            await eventually(lambda: any(m.kind == END_OF_CONFIG for m in client.frames()))
            [opened] = edge.of(OpenSession)
            frames = client.frames()
            told = decode_config(frames[-2 if suite is None else -3].body)
            assert (opened.cross_family, told.extended) == (cross, extended)
            assert (await it.sessions.find(opened.session)).suite is suite
            if suite is None:
                assert (opened.esp_in, told.esp) == (None, None)
                return
            gcm = suite in (GCM128, GCM256)
            assert (opened.esp_in.suite, opened.esp_in.esn) == (suite, gcm)
            assert len(opened.esp_in.secret.reveal()) == 64
            offered = decode_offer(frames[-2].body)
            assert (offered.spi, offered.secret) == (opened.esp_in.spi, opened.esp_in.secret)
            assert told.esp == EspOffer(*wire, port=4500, cross_family=cross)
            client.send(KEYS_ANSWER)
            [out] = await eventually(lambda: edge.of(InstallEspOut))
            assert (out.sa.spi, out.sa.suite, out.sa.esn) == (KEYS.spi, suite, gcm)
            assert out.sa.secret == KEYS.secret

    run(work())


def a_session(**kwargs):
    return Session(
        id=1, user="alice", realm="Users", roles=(), address4=ip_address("10.88.0.2"), address6=None,
        client=CLIENT, started=0.0, expires=1.0, idle_seconds=0, last_seen=0.0, generation=1, **kwargs,
    )  # fmt: skip


def told(capabilities=frozenset(), configuration=None):
    configuration = configuration or configured({})
    policy = compile_policy(configuration, 1)
    rights = effective(policy, ["Users"])
    terms = terms_of(configuration.esp, rights, capabilities)
    split = split_of(policy, rights, {})
    return tunnel_config(configuration.esp, configuration.network, rights, split, a_session(), terms)


def test_openconnect_is_told_nothing_new_but_what_it_passes_over():
    """Byte for byte, apart from the flags that the field's client ignores (if-t-tls.md, section 10.3)."""
    before = TunnelConfig(
        address4=a_session().address4, mtu=1400, esp=EspOffer(EspCipher.AES256_CBC, EspHmac.SHA256, 4500)
    )
    now, then = encode_config(told()), encode_config(before)
    assert len(now) == len(then)
    changed = [position for position in range(len(now)) if now[position] != then[position]]
    flags = {now[position - 4 : position - 2].hex() for position in changed}
    assert flags == {"4001", "4020", "4021"}


ROUTES = [
    ({}, "tunnel_routes_first enforce4 enforce6"),
    ({"route_precedence": "endpoint"}, "enforce4 enforce6"),
    ({"traffic_enforcement_ipv4": False}, "tunnel_routes_first enforce6"),
    ({"traffic_enforcement_ipv6": False}, "tunnel_routes_first enforce4"),
    ({"local_subnet_access": True}, "tunnel_routes_first local_subnet_access enforce4 enforce6"),
    ({"route_monitor": True}, "disconnect_on_route_change tunnel_routes_first enforce4 enforce6"),
]


@pytest.mark.parametrize("capabilities", [frozenset(), CAPABILITIES])
@pytest.mark.parametrize(("vpn", "flags"), ROUTES)
def test_what_the_configuration_says_about_routes_reaches_every_client(vpn, flags, capabilities):
    config = decode_config(encode_config(told(capabilities, configured({}, **vpn))))
    every = (
        "disconnect_on_route_change",
        "tunnel_routes_first",
        "local_subnet_access",
        "enforce4",
        "enforce6",
    )
    assert [name for name in every if getattr(config, name)] == flags.split()


OPTIONS = {"reminder_seconds": 300, "persistent_password_caching": True}


@pytest.mark.parametrize("esp", [True, False])
def test_session_options_are_told_to_whom_they_mean_something(esp):
    def options(session, *capabilities):
        configuration = tree(esp={"enabled": esp}, roles=[{"name": "Users", "session": session}])
        config = decode_config(encode_config(told(set(capabilities), configuration)))
        return config.reminder, config.password_caching

    assert options(OPTIONS, SESSION_OPTIONS) == (300, True)
    assert options({}, SESSION_OPTIONS) == (0, False)
    assert options(OPTIONS, *CAPABILITIES - {SESSION_OPTIONS}) == (0, False)


def test_the_capabilities_are_those_of_the_connection(tmp_path):
    """The same session, resumed by a client that announces more, less, and nothing."""

    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            opened = await it.open()
            for conn, capabilities in enumerate([(ESP_CROSS,), CAPABILITIES, (ESP_PROBE,), (ESP_GCM,)], 1):
                await OwnClient(edge, conn, capabilities=capabilities).enter(opened.cookie)
                await eventually(lambda conn=conn: len(edge.of(OpenSession)) == conn)
            await Visitor(edge, 9).enter(opened.cookie)
            await eventually(lambda: len(edge.of(OpenSession)) == 5)
            messages = edge.of(OpenSession)
            assert [m.esp_in.suite for m in messages] == [CBC, GCM128, CBC, GCM128, CBC]
            assert [m.cross_family for m in messages] == [True, True, False, False, False]
            assert (await it.sessions.find(opened.session.id)).suite is CBC

    run(work())


@pytest.mark.parametrize("announced", [(), CAPABILITIES])
def test_a_rekey_keeps_the_suite_of_its_connection(tmp_path, announced):
    suite = GCM128 if announced else CBC

    async def work():
        async with subject(tmp_path) as it, it.serving() as edge:
            client = OwnClient(edge, 1, capabilities=announced)
            opened = await it.open()
            await client.enter(opened.cookie)
            await eventually(lambda: any(m.kind == END_OF_CONFIG for m in client.frames()))
            client.send(KEYS_ANSWER)
            edge.say(RekeyWanted(opened.session.id))
            [into] = await eventually(lambda: edge.of(InstallEspIn))
            client.send(KEYS_ANSWER)
            await eventually(lambda: len(edge.of(InstallEspOut)) == 2)
            everything = [into.sa, *(m.sa for m in edge.of(InstallEspOut))]
            assert {(sa.suite, sa.esn) for sa in everything} == {(suite, bool(announced))}

    run(work())


ADOPTED = [
    (GCM128, {}, GCM128),
    (GCM256, {}, GCM256),  # the configuration said so when it was opened
    (CBC1, {}, CBC1),
    (GCM128, {"own_cipher": "off"}, GCM128),
    (None, {}, CBC),  # opened by a release that wrote nothing down
    (None, OLD, CBC1),
]


@pytest.mark.parametrize(("stored", "esp", "suite"), ADOPTED)
def test_after_a_restart_a_session_is_rekeyed_with_the_suite_it_was_opened_with(tmp_path, stored, esp, suite):
    async def work():
        async with subject(tmp_path, configuration=configured(esp)) as it:
            session = (await it.open(suite=stored)).session
            async with it.serving(state_of(session, conn=5, transport=Transport.ESP)) as edge:
                edge.say(RekeyWanted(session.id))
                [into] = await eventually(lambda: edge.of(InstallEspIn))
                Visitor(edge, 5).send(KEYS_ANSWER)
                [out] = await eventually(lambda: edge.of(InstallEspOut))
                gcm = suite in (GCM128, GCM256)
                assert {(sa.suite, sa.esn) for sa in (into.sa, out.sa)} == {(suite, gcm)}

    run(work())


def test_no_capability_is_without_a_row():
    assert {
        ESP_GCM, ESP_CROSS, ESP_PROBE, RESUME_PROOF, SESSION_OPTIONS, SPLIT_NETWORKS
    } == CAPABILITIES  # fmt: skip
    assert {row[0] for row in TABLE} == {*CAPABILITIES, "", "all"}
