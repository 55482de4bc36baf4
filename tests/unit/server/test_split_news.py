"""Split-tunnel networks of a live tunnel: who hears of other ones, when, and who keeps what it has."""

import contextlib
from ipaddress import ip_address, ip_network

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lockgate.protocol.edge_link import Attach, LinkFrame, SetRules
from lockgate.protocol.if_t import JuniperKind
from lockgate.protocol.pulse.config import decode_config
from lockgate.protocol.pulse.extensions import CAPABILITIES, SPLIT_NETWORKS
from lockgate.protocol.pulse.split_networks import decode_split_networks
from lockgate.server.gateway import split_news
from tests.unit.server.control_subject import OPEN, tree
from tests.unit.server.gateway_subject import state_of, subject
from tests.unit.server.scripted_edge import OwnClient, Visitor
from tests.unit.server.support import run

FILES, CLOUD = "files.example.org", "cloud.example.org"
NET, OTHER = "10.77.0.0/16", "10.66.0.0/16"
ONE, TWO = ip_address("192.0.2.1"), ip_address("192.0.2.2")


def splitting(*networks, exclude=(), enabled=True, **parts):
    entries = [{"name": "in", "networks": list(networks)}] if networks else []
    entries += [{"name": "out", "action": "exclude", "networks": list(exclude)}] if exclude else []
    vpn = {"split_tunneling": "enabled" if enabled else "disabled"}
    return tree(
        **{
            "roles": [{"name": "Users", "vpn": vpn}],
            "access_control": [OPEN],
            "split_tunneling_networks": entries,
            **parts,
        }
    )


FIRST = splitting(NET, FILES, exclude=[CLOUD])


def news(edge, conn=1):
    """What that client was told in its tunnel: includes and excludes of IPv4, each time."""
    frames = [m for m in edge.of(LinkFrame) if m.conn == conn and m.kind == JuniperKind.SPLIT_NETWORKS]
    return [tuple(of4(networks) for networks in decode_split_networks(frame.body)) for frame in frames]


def of4(networks):
    return [str(each) for each in networks if each.version == 4]


def configured(edge, conn=1):
    [frame, *_] = [m for m in edge.of(LinkFrame) if m.conn == conn and m.kind == JuniperKind.CONFIG]
    config = decode_config(frame.body)
    return of4(config.include), of4(config.exclude)


@contextlib.asynccontextmanager
async def tunnel(folder, configuration=FIRST, make=lambda edge: OwnClient(edge, 1), resolved=None):
    """A client with a tunnel, which came when the names had these addresses."""
    async with subject(folder, configuration=configuration) as it, it.serving() as edge:
        known = {FILES: (ONE,), CLOUD: ()} if resolved is None else resolved
        it.in_force.resolve({name: found for name, found in known.items() if found}, frozenset(known))
        opened = await it.open()
        client = make(edge)
        await client.enter(opened.cookie)
        await edge.sees(Attach(conn=client.conn, session=opened.session.id))
        await it.settle(edge)
        yield it, edge, opened.session


async def resolve(it, edge, **known):
    """The names have other addresses: files, cloud."""
    names = {FILES: known.get("files", ()), CLOUD: known.get("cloud", ())}
    it.in_force.resolve({name: found for name, found in names.items() if found}, frozenset(names))
    await it.service.follow.catch_up("name-changed", it.clock())
    await it.settle(edge)


CLIENTS = [
    (lambda edge: Visitor(edge, 1), 0),
    (lambda edge: OwnClient(edge, 1), 1),
    (lambda edge: OwnClient(edge, 1, capabilities=CAPABILITIES - {SPLIT_NETWORKS}), 0),
]


@pytest.mark.parametrize(("make", "times"), CLIENTS, ids=["openconnect", "ours", "ours-without-the-word"])
def test_all_are_configured_with_addresses_and_those_that_asked_for_it_follow(tmp_path, make, times):
    async def work():
        async with tunnel(tmp_path, make=make) as (it, edge, _):
            assert configured(edge) == ([NET, "192.0.2.1/32"], [])
            it.clock.now += split_news.PAUSE
            await resolve(it, edge, files=(TWO,), cloud=(ONE,))
            assert news(edge) == [([NET, "192.0.2.2/32"], ["192.0.2.1/32"])] * times
            # Nothing that the edge enforces is another.
            assert edge.of(SetRules) == []
            assert "access-enforced" not in [each.event for each in await it.store.audit.newest(9)]

    run(work())


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (splitting(NET, OTHER, FILES, exclude=[CLOUD]), [([NET, OTHER, "192.0.2.1/32"], [])]),
        (splitting(NET, exclude=["10.77.9.0/24"]), [([NET], ["10.77.9.0/24"])]),
        (splitting(NET, FILES, enabled=False), [([], [])]),
        (splitting(NET, FILES, exclude=[CLOUD], bandwidth=[{"name": "b", "up_kbit": 9}]), []),
    ],
    ids=["another include", "an exclude", "full tunnel", "something else"],
)
def test_a_commit_is_followed_where_it_changes_something(tmp_path, changed, expected):
    async def work():
        async with tunnel(tmp_path) as (it, edge, _):
            it.clock.now += split_news.PAUSE
            await it.adopt(changed)
            await it.settle(edge)
            assert news(edge) == expected

    run(work())


def test_a_client_hears_of_the_latest_and_not_too_often(tmp_path):
    async def work():
        async with tunnel(tmp_path) as (it, edge, _):
            it.clock.now += split_news.PAUSE - 1
            await resolve(it, edge, files=(TWO,))
            await resolve(it, edge, files=(ONE, TWO))
            it.service.tunnels.tidy()
            await it.settle(edge)
            assert news(edge) == []
            it.clock.now += 1
            it.service.tunnels.tidy()
            await it.settle(edge)
            assert news(edge) == [([NET, "192.0.2.1/32", "192.0.2.2/32"], [])]
            # What was taken back meanwhile is not told.
            await resolve(it, edge, files=(ONE,))
            await resolve(it, edge, files=(ONE, TWO))
            it.clock.now += split_news.PAUSE
            it.service.tunnels.tidy()
            await it.settle(edge)
            assert len(news(edge)) == 1

    run(work())


def test_nothing_is_told_before_the_names_have_been_asked(tmp_path):
    async def work():
        async with tunnel(tmp_path) as (it, edge, _):
            it.clock.now += split_news.PAUSE
            await it.adopt(splitting(NET, FILES, "new.example.org", exclude=[CLOUD]))
            await it.settle(edge)
            assert news(edge) == []
            resolved = {FILES: (ONE,), "new.example.org": (TWO,)}
            it.in_force.resolve(resolved, frozenset((FILES, CLOUD, "new.example.org")))
            await it.service.follow.catch_up()
            await it.settle(edge)
            assert news(edge) == [([NET, "192.0.2.1/32", "192.0.2.2/32"], [])]

    run(work())


@pytest.mark.parametrize("bound", [True, False])
def test_after_a_restart_of_the_control_plane(tmp_path, bound):
    """Nobody knows what the client was told; it is told anew, but not before the names are known again."""

    async def work():
        async with subject(tmp_path, configuration=FIRST) as it:
            key = Ed25519PrivateKey.generate().public_key().public_bytes_raw() if bound else b""
            session = (await it.open(public_key=key)).session
            async with it.serving(state_of(session, conn=5)) as edge:
                await it.settle(edge)
                assert news(edge, 5) == []
                await resolve(it, edge, files=(ONE,))
                assert news(edge, 5) == ([([NET, "192.0.2.1/32"], [])] if bound else [])

    run(work())


def test_who_loses_everything_is_not_told_to_send_it_outside(tmp_path):
    async def work():
        async with tunnel(tmp_path) as (it, edge, session):
            it.clock.now += split_news.PAUSE
            await it.adopt(splitting(NET, roles=[{"name": "Users", "vpn_tunneling": False}]))
            assert await it.ends(session)
            await it.settle(edge)
            assert news(edge) == []

    run(work())


def test_rights_whose_networks_alone_have_moved_are_otherwise_the_same_objects(tmp_path):
    async def work():
        async with tunnel(tmp_path) as (it, edge, _):
            before = it.in_force.rights(("Users",))
            await resolve(it, edge, files=(ONE,))
            assert it.in_force.rights(("Users",)) is before
            await resolve(it, edge, files=(TWO,))
            now = it.in_force.rights(("Users",))
            assert now is not before
            assert now.only_told_otherwise(before)
            assert ip_network("192.0.2.2/32") in now.split.include

    run(work())
