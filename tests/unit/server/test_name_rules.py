"""DNS names of access rules: asked again in time, kept through trouble, given up after an hour."""

import asyncio
from ipaddress import ip_address

import dns.asyncresolver
import dns.message
import dns.resolver

from lockgate.server import names
from lockgate.server.names import Answer, Names
from tests.unit.server.support import Clock, run

WIKI = "wiki.example.org"
ONE, TWO, SIX = ip_address("10.77.0.1"), ip_address("10.77.0.2"), ip_address("fd77::1")


class Server:
    """A name server: what it answers to (name, version), and what it was asked."""

    def __init__(self):
        self.answers = {(WIKI, 4): Answer((ONE,), 60.0), (WIKI, 6): Answer((), 60.0)}
        self.asked = []

    async def __call__(self, name, version):
        self.asked.append((name, version))
        answer = self.answers.get((name, version))
        if answer is None:
            raise OSError("no answer")
        return answer


class Subject:
    def __init__(self):
        self.server, self.clock, self.told = Server(), Clock(), []
        self.names = Names(self.changed, self.server, self.clock)

    async def changed(self, resolved):
        self.told.append(dict(resolved))

    async def after(self, seconds):
        """What is asked when the time has moved on."""
        self.clock.now += seconds
        self.server.asked.clear()
        await self.names.refresh()
        return sorted(self.server.asked)


def test_a_name_is_asked_again_when_its_answer_runs_out():
    async def work():
        it = Subject()
        it.names.want([WIKI])
        assert await it.after(0) == [(WIKI, 4), (WIKI, 6)]
        assert it.told == [{WIKI: (ONE,)}]
        assert await it.after(59) == []
        it.server.answers[WIKI, 4] = Answer((TWO, ONE), 1.0)
        assert await it.after(1) == [(WIKI, 4), (WIKI, 6)]
        assert it.told[1:] == [{WIKI: (ONE, TWO)}]
        # Never more often than the lowest, never less often than the highest.
        assert await it.after(names.LOWEST_TTL - 0.1) == []
        it.server.answers[WIKI, 4] = Answer((TWO, ONE), 1e9)
        assert await it.after(0.1) == [(WIKI, 4)]
        assert (WIKI, 4) in await it.after(names.HIGHEST_TTL)
        assert len(it.told) == 2  # the order of an answer is no change

    run(work())


def test_an_answer_outlives_a_failure_for_an_hour_and_no_longer():
    async def work():
        it = Subject()
        it.server.answers[WIKI, 6] = Answer((SIX,), 60.0)
        it.names.want([WIKI])
        await it.after(0)
        assert it.told == [{WIKI: (ONE, SIX)}]
        del it.server.answers[WIKI, 4]
        await it.after(60)
        await it.after(names.KEEP - 61)
        assert len(it.told) == 1
        await it.after(names.LOWEST_TTL)
        assert it.told[1:] == [{WIKI: (SIX,)}]
        it.server.answers[WIKI, 4] = Answer((TWO,), 60.0)
        await it.after(names.LOWEST_TTL)
        assert it.told[2:] == [{WIKI: (TWO, SIX)}]

    run(work())


def test_a_name_that_is_gone_loses_its_address_at_once():
    async def work():
        it = Subject()
        it.names.want([WIKI])
        await it.after(0)
        it.server.answers[WIKI, 4] = Answer((), 30.0)
        await it.after(60)
        assert it.told[1:] == [{}]

    run(work())


def test_names_that_nobody_wants_are_forgotten():
    async def work():
        it = Subject()
        it.names.want([WIKI, "other.example.org"])
        await it.after(0)
        it.names.want(["other.example.org"])
        assert it.names.resolved == {}
        assert {name for name, _ in await it.after(10_000)} == {"other.example.org"}
        assert await it.names.ask(WIKI) == (ONE,)
        assert await it.names.ask("nobody.example.org") == ()

    run(work())


def test_who_asks_cannot_tell_which_names_are_followed():
    async def work():
        it = Subject()
        it.names.want([WIKI])
        await it.after(0)
        it.server.answers[WIKI, 4] = Answer((TWO,), 60.0)
        it.server.asked.clear()
        assert await it.names.ask(WIKI) == (ONE,)  # what the rules go by
        assert sorted(it.server.asked) == [(WIKI, 4), (WIKI, 6)]

    run(work())


def test_which_names_have_been_asked_is_told_too():
    """Whoever keeps what it has until something is known must hear of "no address", and not wait for ever."""

    async def work():
        it = Subject()
        it.server.answers = {(WIKI, 4): Answer((), 60.0), (WIKI, 6): Answer((), 60.0)}
        it.names.want([WIKI, "silent.example.org"])
        assert it.names.answered == frozenset()
        await it.after(0)
        assert (it.names.answered, it.told) == ({WIKI}, [{}])
        await it.after(names.UNANSWERED - 0.1)
        assert it.names.answered == {WIKI}
        await it.after(names.LOWEST_TTL)
        assert (it.names.answered, it.told) == ({WIKI, "silent.example.org"}, [{}, {}])
        it.names.want([WIKI])
        it.names.want([WIKI, "silent.example.org"])
        assert it.names.answered == {WIKI}

    run(work())


def test_no_more_addresses_than_rules_can_hold():
    async def work():
        it = Subject()
        many = tuple(ip_address(f"10.0.{n // 250}.{n % 250 + 1}") for n in range(500))
        it.server.answers[WIKI, 4] = Answer(many, 60.0)
        it.names.want([WIKI])
        await it.after(0)
        assert it.told == [{WIKI: many[: names.MAX_ADDRESSES]}]

    run(work())


def test_a_slow_name_keeps_no_news_of_others_back(monkeypatch):
    monkeypatch.setattr(names, "TOGETHER", 0.01)

    async def work():
        it, answer, told = Subject(), asyncio.Event(), asyncio.Event()
        lookup = it.server.__call__

        async def slow(name, version):
            if name == "slow.example.org":
                await answer.wait()
            return await lookup(name, version)

        async def changed(resolved):
            it.told.append(dict(resolved))
            told.set()

        it.names = Names(changed, slow, it.clock)
        it.names.want([WIKI, "slow.example.org"])
        looking = asyncio.create_task(it.names.refresh())
        await told.wait()
        assert it.told == [{WIKI: (ONE,)}]
        assert not looking.done()
        answer.set()
        await looking

    run(work())


def test_an_alias_is_good_for_as_long_as_its_shortest_part(monkeypatch):
    message = dns.message.from_text(
        "id 1\nopcode QUERY\nrcode NOERROR\nflags QR RD RA\n;QUESTION\nwiki.example.org. IN A\n;ANSWER\n"
        "wiki.example.org. 7 IN CNAME a.example.net.\na.example.net. 3600 IN A 10.77.0.1\n"
    )

    async def resolve(*_, **__):
        return dns.resolver.Answer("wiki.example.org.", "A", "IN", message)

    monkeypatch.setattr(dns.asyncresolver.Resolver, "resolve", resolve)
    assert run(names.system_lookup(WIKI, 4)) == Answer((ONE,), 7.0)
