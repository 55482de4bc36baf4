"""Records are exchanged with a server that answers anything: what it may do here is bounded, and what went wrong is said."""

from __future__ import annotations

import contextlib
import http.server
import json
from urllib.parse import parse_qs, urlsplit

import pytest

from lockgate.model.problem import ProblemError
from lockgate.server.config.tree.system import RecordPeer
from lockgate.server.record_peers import PAGE, PATH, PATIENCE, RecordPeers
from lockgate.server.store.interface import LOCAL_SERVER, PeerRecord
from lockgate.server.vault import open_vault
from tests.unit.server.control_subject import tree
from tests.unit.server.support import Clock, new_store, place_of, run
from tests.unit.server.test_store_user_records import DARK, LIGHT, edit, synchronise
from tests.unit.server.tls_server import TlsServer

TOKEN = "lgt_canary-of-a-peer"
ORIGIN = "e" * 32


class Other(TlsServer):
    """Another gateway, or what says it is one: `get` and `post` give the answers."""

    def __init__(self, folder):
        self.get = lambda _: self.page()
        self.post = lambda _: {"taken": 0, "refused": {}}
        self.asked, self.sent, self.tokens = [], [], set()
        other = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                assert self.path.startswith(PATH)
                query = {key: value[0] for key, value in parse_qs(urlsplit(self.path).query, True).items()}
                other.asked.append(query)
                self._answer(other.get(query))

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                other.sent.append(body["changes"])
                self._answer(other.post(body))

            def _answer(self, answer):
                other.tokens.add(self.headers["Authorization"])
                status, content = answer if isinstance(answer, tuple) else (200, answer)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(content if isinstance(content, bytes) else json.dumps(content).encode())

            def log_message(self, *_):
                pass

        super().__init__(folder, Handler)
        self.url = f"https://127.0.0.1:{self.port}"

    @staticmethod
    def page(changes=(), following=0, names=("Staff",), origin=ORIGIN):
        return {"origin": origin, "names": list(names), "changes": list(changes), "following": following}


@contextlib.asynccontextmanager
async def subject(tmp_path, other):
    """A gateway's half over a real store: the peers, its shelf, the peer's settings, the clock."""
    place = place_of(tmp_path)
    async with new_store(place) as store:
        await synchronise(store, {LOCAL_SERVER: "Staff"})
        vault, clock = open_vault(place), Clock()
        peer = RecordPeer(name="west", url=other.url, token=vault.seal(TOKEN), ca=other.ca)
        settings = tree(user_records={"peers": [peer.model_dump(mode="json")]})
        ticks = [0.0]
        peers = RecordPeers(store.user_records, lambda: settings, vault, clock, lambda: ticks[0])
        yield peers, store, peer, clock, ticks


def change(clock, number=0, **fields):
    return {
        "logical_server": "Staff",
        "user": f"u{number}",
        "item": "preference:colours",
        "time": int(clock() * 1000),
        "origin": ORIGIN,
        "value": "dark",
        **fields,
    }


def test_everything_is_fetched_once_and_sent_once(tmp_path):
    async def work():
        with Other(tmp_path) as other:
            async with subject(tmp_path, other) as (peers, store, _, clock, ticks):
                theirs = [change(clock, number) for number in range(PAGE + 3)]

                def page(query):
                    after = int(query["after"]) if query["origin"] == ORIGIN else 0
                    return other.page(theirs[after : after + PAGE], min(after + PAGE, len(theirs)))

                other.get = page
                shelf = store.user_records
                await shelf.change(LOCAL_SERVER, "mine", edit(colours=LIGHT), int(clock() * 1000))
                await peers.turn()
                await peers.settle()
                assert [query["after"] for query in other.asked] == ["0", str(PAGE)]
                assert await shelf.get(LOCAL_SERVER, f"u{PAGE + 2}") == {"preference:colours": DARK}
                assert [each["user"] for each in other.sent[0] if each["user"] == "mine"] == ["mine"]
                assert other.tokens == {f"Bearer {TOKEN}"}
                known = (await shelf.peers())["west"]
                assert (known.origin, known.fetched, known.succeeded) == (ORIGIN, PAGE + 3, clock())
                assert await shelf.waiting(known.sent) == 0
                # Nothing new: no turn before its time, and then nothing is sent.
                count = len(other.sent)
                for ticks[0] in (1.0, 14.0, 15.0):
                    await peers.turn()
                    await peers.settle()
                assert (len(other.asked), len(other.sent)) == (3, count)
                # Something new is sent at once.
                await shelf.change(LOCAL_SERVER, "mine", edit(colours=DARK), int(clock() * 1000))
                await peers.turn()
                await peers.settle()
                assert [each["value"] for each in other.sent[-1]] == ["dark"]
                # Another origin: it was restored, and gets everything again.
                other.get = lambda _: other.page(origin="d" * 32)
                ticks[0] = 60.0
                await peers.turn()
                await peers.settle()
                assert sum(len(each) for each in other.sent[count + 1 :]) == PAGE + 4

    run(work())


CHANGES_OF_NOBODY = [{"logical_server": "Staff"}]
ANSWERS = [
    (b"<html>", "none of a Lockgate server"),
    ((307, b""), "none of a Lockgate server"),
    ((403, {"code": "not-allowed", "summary": "No \x1b[2J."}), "it refused"),
    (b" " * (PATIENCE.most + 2), "none of a Lockgate server"),
    (b"[" * 100_000, "none of a Lockgate server"),
    ([], "none of a Lockgate server"),
    ({}, "none of a Lockgate server"),
    (Other.page(origin="x" * 33), "none of a Lockgate server"),
    (Other.page(origin=""), "none of a Lockgate server"),
    (Other.page(origin="\ud800" * 32), "none of a Lockgate server"),
    (Other.page(origin="\0" * 32), "none of a Lockgate server"),
    (Other.page(names=["n"] * 201), "none of a Lockgate server"),
    (Other.page(following=-1), "none of a Lockgate server"),
    (Other.page(following=True), "none of a Lockgate server"),
    (Other.page(following=1 << 63), "none of a Lockgate server"),
    (Other.page([{}] * (PAGE + 1)), "none of a Lockgate server"),
    (Other.page(CHANGES_OF_NOBODY), "no change of a record"),
    (Other.page([7]), "no change of a record"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "words"), ANSWERS)
def test_answers_that_are_none(tmp_path, answer, words):
    async def work():
        with Other(tmp_path) as other:
            async with subject(tmp_path, other) as (peers, store, peer, _, _):
                other.get = lambda _: answer
                with pytest.raises(ProblemError) as caught:
                    await peers.exchange(peer, PeerRecord("west"))
                text = caught.value.problem.text()
                assert words in text
                assert text.isprintable()
                assert TOKEN not in text
                assert len(other.asked) == 1
                assert (await store.user_records.changes(0, 9)).changes == ()

    run(work())


@pytest.mark.parametrize("count", [-1, -(1 << 70), True, "1"])
def test_counts_that_are_none(tmp_path, count):
    async def work():
        with Other(tmp_path) as other:
            async with subject(tmp_path, other) as (peers, store, peer, _, _):
                await store.user_records.change(LOCAL_SERVER, "alice", edit(colours=DARK), 5)
                other.post = lambda _: {"taken": 0, "refused": {"too-many": count}}
                with pytest.raises(ProblemError) as caught:
                    await peers.exchange(peer, PeerRecord("west"))
                assert "none of a Lockgate server" in caught.value.problem.text()

    run(work())


def test_it_touches_only_what_is_synchronised_here(tmp_path):
    async def work():
        with Other(tmp_path) as other:
            async with subject(tmp_path, other) as (peers, store, peer, clock, _):
                shelf = store.user_records
                await shelf.change("Administrators", "admin", edit(colours=LIGHT), 5)
                foreign = [
                    change(clock, logical_server=name, user="admin")
                    for name in ("Administrators", "server:Administrators", "Else")
                ]
                other.get = lambda _: other.page(foreign, 3, names=["Else", "Staff", 7])
                after = await peers.exchange(peer, PeerRecord("west"))
                assert after.names == {"Staff"}
                assert await shelf.get("Administrators", "admin") == {"preference:colours": LIGHT}
                assert (await shelf.changes(0, 9)).changes == ()
                # What it does not know it is not told either.
                await shelf.change(LOCAL_SERVER, "alice", edit(colours=DARK), 5)
                other.get = lambda _: other.page(names=["Else"])
                await peers.exchange(peer, after)
                assert other.sent == []

    run(work())


def test_an_endless_feed_ends(tmp_path):
    async def work():
        with Other(tmp_path) as other:
            async with subject(tmp_path, other) as (peers, _, peer, clock, _):
                same = [change(clock)] * PAGE
                other.get = lambda query: other.page(same, int(query["after"]) + 1)
                await peers.exchange(peer, PeerRecord("west"))
                assert len(other.asked) == 50
                other.get = lambda _: other.page(same, 7)
                await peers.exchange(peer, PeerRecord("west", ORIGIN, frozenset({"Staff"}), fetched=7))
                assert len(other.asked) == 51

    run(work())


def test_clocks_that_differ_and_who_cannot_be_reached(tmp_path):
    async def work():
        with Other(tmp_path) as other:
            async with subject(tmp_path, other) as (peers, store, peer, clock, ticks):
                shelf = store.user_records
                late = change(clock, time=int(clock() * 1000) + 3_600_000)
                other.get = lambda _: other.page([late], 1)
                await peers.turn()
                await peers.settle()
                known = (await shelf.peers())["west"]
                assert "its clock is ahead of ours" in known.error
                assert known.fetched == 0
                # No attempt before the pause is over, which grows; then it goes on where it was.
                await peers.turn()
                await peers.settle()
                assert len(other.asked) == 1
                ticks[0] = 2.0
                await peers.turn()
                await peers.settle()
                ticks[0] = 5.0
                await peers.turn()
                await peers.settle()
                assert len(other.asked) == 2
                clock.now = clock() + 3_600
                ticks[0] = 6.0
                await peers.turn()
                await peers.settle()
                known = (await shelf.peers())["west"]
                assert (known.error, known.fetched) == ("", 1)
                await shelf.change(LOCAL_SERVER, "alice", edit(colours=DARK), int(clock() * 1000))
                other.post = lambda _: {"taken": 0, "refused": {"ahead": 1}}
                with pytest.raises(ProblemError, match="its clock is behind ours"):
                    await peers.exchange(peer, known)
                assert (await shelf.peers())["west"].sent == known.sent
        ticks[0] = 1000.0

    run(work())
