"""Network Connect sign-in: pages as openconnect reads them, and what a cookie of it is worth."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import urljoin

import pytest

from lockgate.model.prompt import TokenCode
from lockgate.model.session import EndCause, Session
from lockgate.model.support_code import said_in
from lockgate.protocol.secret import Secret
from lockgate.server.web.forms.prompts import Answer, answer_of, form_of
from lockgate.server.web.network_connect import routes as handlers
from lockgate.server.web.network_connect.forms import given_in, prompt_page
from tests.unit.server.control_subject import limits, realm, tree
from tests.unit.server.portal_subject import Browser, part, portal
from tests.unit.server.support import HASH, PASSWORD, run, user

WELCOME = "/dana-na/auth/url_default/welcome.cgi"
HOME = "/dana/home/index.cgi"
SIGNING_IN = "__Host-lockgate-nc-sign-in"
KNOWN = {
    "frmLogin": "btnSubmit",
    "frmTotpToken": "totpactionEnter",
    "frmSelectRoles": None,
}


class Page(HTMLParser):
    """What openconnect 9.01 takes from a page: the first form and what stands in it (oncp.md, section 4)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.form: dict[str, str | None] | None = None
        self.inputs: list[tuple[str, str, str]] = []  # type, name, value
        self.selects: dict[str, list[tuple[str, str]]] = {}  # value, label
        self.links: list[tuple[str, str]] = []  # label, address
        self.told = ""
        self._open: list[str] = []
        self._forms = 0
        self.feed(text)

    def handle_starttag(self, tag, attributes) -> None:
        given = dict(attributes)
        if tag == "form":
            self._forms += 1
            self.form = self.form or given
        if tag == "input":
            assert given["name"], "an input without a name crashes the client"
            self.inputs.append((given["type"], given["name"], given["value"]))
        elif tag != "meta":
            self._open.append(tag)
        if tag == "select":
            self.selects[given["name"]] = []
        if tag == "option":
            list(self.selects.values())[-1].append((given["value"], ""))
        if tag == "textarea":
            assert given["name"] == "sn-preauth-text"
        if tag == "a":
            assert self._open[-4:] == ["table", "tr", "td", "a"]
            self.links.append(("", given["href"]))

    def handle_endtag(self, tag) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data) -> None:
        match self._open[-1:]:
            case ["textarea"]:
                self.told += data
            case ["option"]:
                options = list(self.selects.values())[-1]
                options[-1] = (options[-1][0], options[-1][1] + data)
            case ["a"]:
                self.links[-1] = (self.links[-1][0] + data, self.links[-1][1])


class Client(Browser):
    """`openconnect --protocol=nc` as far as its HTTP goes: it follows, remembers, and fills in."""

    async def follow_all(self, method, path, form=None):
        """The page at the end of all redirects; its address is left in `at`."""
        self.extra["ncp-version"] = "3"
        for _ in range(10):
            self.at = path
            reply = await (self.get(path) if method == "GET" else self.post(path, form))
            for name in [name for name, value in self.cookies.items() if not value]:
                del self.cookies[name]
            assert reply.status != 401
            if "location" not in dict(reply.headers):
                break
            method, path = "GET", urljoin(path, reply.header("location"))
        self.reply, self.page = reply, Page(reply.text)
        if self.page.form is not None:
            assert "DSID" not in self.cookies, "a client with it takes itself for signed in"
            name = self.page.form["name"]
            assert name in KNOWN
            if name != "frmSelectRoles":
                assert self.page.form["method"] == "POST"
        return self.page

    async def begin(self, path="/"):
        return await self.follow_all("GET", path)

    async def submit(self, **typed):
        """Answers the form of the last page; what is not typed is sent as it is."""
        asked = {name: value for _, name, value in self.page.inputs}
        asked |= {name: options[0][0] for name, options in self.page.selects.items()}
        submit = KNOWN[self.page.form["name"]]
        assert submit in asked
        assert set(typed) <= set(asked), (typed, asked)
        return await self.follow_all("POST", urljoin(self.at, self.page.form["action"]), asked | typed)

    async def choose(self, label):
        return await self.follow_all("GET", urljoin(self.at, dict(self.page.links)[label]))

    async def sign_in(self, name="alice", password=PASSWORD, path="/"):
        await self.begin(path)
        return await self.submit(username=name, password=password)


def client(it, **facts) -> Client:
    return Client(it.app, agent="AnyConnect-compatible OpenConnect VPN Agent v9.01", **facts)


async def session_of(it, visitor) -> Session:
    found = await it.services.sessions.by_cookie(Secret.of_text(visitor.cookies["DSID"]))
    assert isinstance(found, Session), found
    return found


def test_a_sign_in_opens_a_session_whose_cookie_is_all_there_is(tmp_path):
    async def work():
        async with portal(tmp_path) as it:
            visitor = client(it)
            page = await visitor.begin()
            assert visitor.at == WELCOME
            assert [(kind, name) for kind, name, _ in page.inputs] == [
                ("hidden", "xsauth"),
                ("text", "username"),
                ("password", "password"),
                ("submit", "btnSubmit"),
            ]
            before = dict(visitor.cookies)
            await visitor.submit(username="alice", password=PASSWORD)
            assert (visitor.at, visitor.reply.status, visitor.reply.text) == (HOME, 200, "Signed in.\n")
            session = await session_of(it, visitor)
            assert (session.user, session.generation, session.roles) == ("alice", 1, ("Users",))
            assert (session.client.source, session.client.user_agent[:10]) == ("192.0.2.9", "AnyConnect")
            assert session.address4 is not None
            assert session.address6 is None  # it could not use it
            assert visitor.cookies["DSID"] not in before.values()
            assert SIGNING_IN not in visitor.cookies
            assert int(visitor.cookies["DSFirstAccess"]) == int(it.clock.now)
            # Only the hash of it is kept.
            dumped = repr(await it.services.store.sessions.live())
            assert visitor.cookies["DSID"] not in dumped
            assert await it.events("sign-in") == ["ok"]
            assert await it.events("session-open") == ["ok"]
            # A step cannot be answered a second time.
            late = client(it, cookies=before)
            late.page, late.at = page, WELCOME
            await late.submit(username="alice", password=PASSWORD)
            assert "DSID" not in late.cookies

    run(work())


def test_a_wrong_password_asks_again_with_a_support_code(tmp_path):
    async def work():
        async with portal(tmp_path) as it:
            visitor = client(it)
            page = await visitor.sign_in(password="mistyped")
            assert "wrong" in page.told
            assert said_in(page.told)
            await visitor.submit(username="alice", password=PASSWORD)
            assert (await session_of(it, visitor)).user == "alice"

    run(work())


@pytest.mark.parametrize(
    ("name", "passwords", "reason"),
    [
        ("dora", [PASSWORD], "user-disabled"),
        ("alice", ["no"] * 3, "wrong-password"),
        ("nobody", ["no"] * 3, "unknown-user"),
    ],
)
def test_a_refusal_says_why_and_lets_nobody_loop(tmp_path, name, passwords, reason):
    async def work():
        async with portal(tmp_path) as it:
            visitor = client(it)
            await visitor.begin()
            for password in passwords:
                page = await visitor.submit(username=name, password=password)
            assert said_in(page.told)
            assert ("disabled" in page.told) is (reason == "user-disabled")
            assert await it.events("sign-in") == [reason] * len(passwords)
            # A program that answers with what stands first is not asked for a password again.
            assert (await visitor.submit()).form is None
            assert visitor.reply.status == 403
            await visitor.begin()
            for password in passwords:
                await visitor.submit(username=name, password=password)
            page = await visitor.submit(again="yes")
            assert "username" in [each for _, each, _ in page.inputs]
            assert await it.services.sessions.live() == []

    run(work())


def roles(*names):
    """User roles that differ by their names alone."""
    [first, *_] = tree().model_dump(mode="json")["roles"]
    return [{**first, "name": name} for name in names]


def test_realms_roles_notices_and_a_new_password(tmp_path):
    configuration = tree(
        realms=[realm(), realm("Contractors", roles=["Users", "R & D <b>"], when_several="choose-role")],
        roles=roles("Users", "R & D <b>"),
        sign_in_notifications=[
            {"name": "Before", "text": "For staff & <friends>"},
            {"name": "After", "text": "Done"},
        ],
        sign_in_policies=part(
            tree(),
            "sign_in_policies",
            realms=["Users", "Contractors"],
            pre_notification="Before",
            post_notification="After",
        ),
    )

    async def work():
        async with portal(tmp_path, configuration) as it:
            visitor = client(it)
            page = await visitor.begin()
            assert page.told == "For staff & <friends>"
            page = await visitor.submit()
            assert page.selects == {"realm": [("Users", "Users"), ("Contractors", "Contractors")]}
            await visitor.submit(realm="Contractors")
            page = await visitor.submit(username="mia", password=PASSWORD)
            assert [name for kind, name, _ in page.inputs if kind == "password"] == ["old", "new", "again"]
            page = await visitor.submit(old=PASSWORD, new="another passphrase", again="mistyped")
            assert "not the same" in page.told
            page = await visitor.submit(old=PASSWORD, new="another passphrase", again="another passphrase")
            labels = [label for label, _ in page.links]
            assert labels == ["Users", "R & D <b>"]
            page = await visitor.choose("R & D <b>")
            assert page.told == "Done"
            await visitor.submit()
            session = await session_of(it, visitor)
            assert (session.user, session.realm, session.roles) == ("mia", "Contractors", ("R & D <b>",))

    run(work())


def test_a_code_is_asked_for_in_the_form_that_tokens_fill():
    page = Page(prompt_page(form_of(TokenCode("From <your> device")), "t"))
    assert page.form == {"name": "frmTotpToken", "action": "login.cgi", "method": "POST"}
    assert page.told == "From <your> device"
    assert [(kind, name) for kind, name, _ in page.inputs] == [
        ("hidden", "xsauth"),
        ("password", "totpactiontok"),
        ("submit", "totpactionEnter"),
    ]
    typed = given_in({name: value for _, name, value in page.inputs} | {"totpactiontok": "123456"})
    assert answer_of(TokenCode(""), typed) == Answer({"code": Secret.of_text("123456")})


def test_the_address_chooses_the_policy(tmp_path):
    policies = tree().model_dump(mode="json")["sign_in_policies"]
    first = next(each for each in policies if each["user_type"] == "users")
    configuration = tree(
        realms=[realm("Users"), realm("Contractors")],
        sign_in_policies=[
            *policies,
            {**first, "name": "Contractors", "url": "*/contractors/", "realms": ["Contractors"]},
            {**first, "name": "Closed", "url": "*/closed/", "enabled": False},
        ],
    )

    async def work():
        async with portal(tmp_path, configuration) as it:
            for path, wanted in (
                ("/", "Users"),
                ("/contractors", "Contractors"),
                ("/contractors/x/", "Contractors"),
            ):
                visitor = client(it)
                await visitor.sign_in(path=path)
                assert (await session_of(it, visitor)).realm == wanted
            # Where nobody signs in there is no sign-in, which would be a line in the audit: strangers could fill it.
            written = len(await it.services.store.audit.newest(1000))
            visitor = client(it)
            assert (await visitor.begin("/closed/")).form is None
            assert visitor.reply.status == 403
            # A cookie that leads there leads nowhere.
            visitor.cookies["DSSignInURL"] = "/closed/"
            assert (await visitor.begin(WELCOME)).form is not None
            assert len(await it.services.store.audit.newest(1000)) == written

    run(work())


def test_at_the_session_limit_nothing_ends_that_was_not_chosen(tmp_path):
    async def work():
        async with portal(tmp_path, tree(realms=[realm(policy=limits(1))])) as it:
            first = client(it)
            await first.sign_in()
            kept = await session_of(it, first)
            second = client(it)
            page = await second.sign_in()
            [none, (value, label)] = page.selects["session"]
            assert none[0] == ""
            assert (value, label.split(",")[0]) == (str(kept.id), "192.0.2.9")
            page = await second.submit()  # blindly
            assert "Too many sessions" in page.told
            assert await session_of(it, first) == kept
            third = client(it)
            await third.sign_in()
            await third.submit(session=str(kept.id))
            assert (await it.services.sessions.find(kept.id)).cause is EndCause.REPLACED
            assert (await session_of(it, third)).user == "alice"

    run(work())


@pytest.mark.parametrize(
    "forged", ["no token", "another token", "another front", "a page of another site", "twice"]
)
def test_a_form_that_is_not_ours_does_nothing(tmp_path, forged):
    async def work():
        async with portal(tmp_path) as it:
            visitor = client(it)
            page = await visitor.begin()
            form = {name: value for _, name, value in page.inputs} | {
                "username": "alice",
                "password": PASSWORD,
            }
            headers = {}
            if forged == "no token":
                del form["xsauth"]
            elif forged == "another token":
                other = client(it)
                form["xsauth"] = {name: value for _, name, value in (await other.begin()).inputs}["xsauth"]
            elif forged == "another front":
                browser = it.browser()
                form["xsauth"] = (await browser.get()).fields()["csrf"]
                visitor.cookies[SIGNING_IN] = browser.cookies["__Host-lockgate-sign-in"]
            elif forged == "a page of another site":
                headers["origin"] = "https://evil.example"
            body = form
            if forged == "twice":
                token = form["xsauth"]
                body = f"xsauth={token}&xsauth={token}&username=alice&password={PASSWORD}".encode()
                headers["content-type"] = "application/x-www-form-urlencoded"
            reply = await visitor.post("/dana-na/auth/url_default/login.cgi", body, **headers)
            assert reply.status in (302, 403)
            assert "DSID" not in visitor.cookies
            assert await it.services.sessions.live() == []

    run(work())


def test_an_answer_goes_to_the_prompt_that_waits_when_it_is_here(tmp_path, monkeypatch):
    arrives, on_its_way, real = asyncio.Event(), asyncio.Event(), handlers.read_form

    async def slow(request):
        on_its_way.set()
        await arrives.wait()
        return await real(request)

    async def work():
        policies = part(tree(), "sign_in_policies", realms=["Users", "Others"])
        configuration = tree(realms=[realm("Users"), realm("Others")], sign_in_policies=policies)
        async with portal(tmp_path, configuration) as it:
            visitor = client(it)
            form = {name: value for _, name, value in (await visitor.begin()).inputs} | {"realm": "Users"}
            monkeypatch.setattr(handlers, "read_form", slow)
            late = asyncio.create_task(visitor.post("/dana-na/auth/url_default/login.cgi", form))
            await on_its_way.wait()
            monkeypatch.setattr(handlers, "read_form", real)
            await visitor.submit(realm="Users")
            arrives.set()
            reply = await late
            assert reply.status == 200
            assert Page(reply.text).form["name"] == "frmLogin"

    run(work())


def test_a_role_is_chosen_by_a_link_of_ours_only(tmp_path):
    configuration = tree(
        roles=roles("Users", "B"), realms=[realm(roles=["Users", "B"], when_several="choose-role")]
    )

    async def work():
        async with portal(tmp_path, configuration) as it:
            visitor = client(it)
            page = await visitor.sign_in()
            [(_, link), *_] = page.links
            for wrong in (re.sub("xsauth=.*", "xsauth=x", link), link.partition("&xsauth")[0]):
                await visitor.follow_all("GET", urljoin(visitor.at, wrong))
                assert visitor.reply.status == 403
            await visitor.follow_all("GET", urljoin(WELCOME, link))
            assert "DSID" in visitor.cookies

    run(work())


def test_browsers_and_a_gateway_without_it_have_none_of_these_pages(tmp_path):
    off = tree(gateway={"network_connect": False})

    async def work():
        async with portal(tmp_path) as it:
            browser = it.browser()
            for path in (WELCOME, "/dana-na/auth/url_default/login.cgi", HOME):
                assert (await browser.get(path)).status == 404
            assert "csrf" in (await browser.get("/")).fields()
            await it.adopt(off)
            visitor = client(it)
            for path in ("/", WELCOME, "/dana-na/auth/url_default/login.cgi"):
                assert (await visitor.begin(path)).form is None
                assert visitor.reply.status == 403

    run(work())


def test_who_gets_ipv6_alone_is_told_so(tmp_path):
    async def work():
        async with portal(tmp_path, tree(network={"pools": ["fd00:88::/64"]})) as it:
            visitor = client(it)
            page = await visitor.sign_in()
            assert "IPv6" in page.told
            assert said_in(page.told)
            assert await it.events("sign-in") == ["ok"]
            assert await it.events("session-open") == ["no-ipv4-address"]
            assert "DSID" not in visitor.cookies

    run(work())


def test_logging_out_ends_the_session(tmp_path):
    async def work():
        async with portal(tmp_path) as it:
            await it.services.store.users.add(replace(user("erin", password_hash=HASH)))
            visitor = client(it)
            await visitor.sign_in("erin")
            session = await session_of(it, visitor)
            await visitor.follow_all("GET", "/dana-na/auth/logout.cgi")
            assert visitor.reply.status == 200
            assert (await it.services.sessions.find(session.id)).cause is EndCause.LOGOUT

    run(work())
