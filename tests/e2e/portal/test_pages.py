"""The portal in a browser: every page is walked through, by keyboard and without script too, in every look."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from lockgate.model.session import EndCause
from tests.e2e.portal.conftest import NewPage, accessible
from tests.e2e.portal.served import Served
from tests.unit.server.portal_subject import Portal
from tests.unit.server.support import CLIENT, PASSWORD, identity
from tests.unit.server.test_portal import two_realms

LOOKS = [("light", 1200), ("dark", 380)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    tree = two_realms(pre_notification="Before", post_notification="After").model_dump(mode="json")
    tree["realms"][1]["policy"]["limits"]["max_sessions_per_user"] = 1
    tree["roles"][1]["web_options"]["own_bookmarks"] = True
    with Served(tmp_path_factory.mktemp("portal"), type(two_realms()).model_validate(tree)) as served:
        yield served


async def one_session(subject: Portal) -> None:
    """Alice has exactly one tunnel, which is as many as she may have."""
    services = subject.services
    for session in await services.sessions.live("alice"):
        await services.sessions.end_many([session.id], EndCause.LOGOUT)
    for browser in await services.store.web_sessions.live("portal", "alice"):
        await services.web_sessions.end(browser.id, "logout")
    await subject.services.sessions.open(identity(realm="Staff"), CLIENT)


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name).click()


def sign_in(page: Page, served: Served, password: str = PASSWORD) -> None:
    page.goto(served.url)
    press(page, "Continue")
    page.get_by_label("Staff").check()
    press(page, "Continue")
    page.get_by_label("User name").fill("alice")
    page.get_by_label("Password").fill(password)
    press(page, "Sign in")
    page.get_by_label("Staff").check()
    press(page, "Continue")
    if page.get_by_role("heading", name="Too many sessions").is_visible():
        page.get_by_role("radio").check()
        press(page, "End it and continue")
    press(page, "Continue")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_every_page(served: Served, new_page: NewPage, scheme: str, width: int) -> None:
    served.call(one_session)
    page = new_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    page.goto(served.url)
    expect(page.get_by_role("heading", name="Please read")).to_be_visible()
    accessible(page)
    press(page, "Continue")
    accessible(page)
    page.get_by_label("Staff").check()
    press(page, "Continue")
    expect(page.get_by_label("User name")).to_be_focused()
    accessible(page)
    page.keyboard.type("alice")
    page.keyboard.press("Tab")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    expect(page.get_by_role("alert")).to_contain_text("Support code: ")
    expect(page.get_by_label("Password")).to_be_focused()
    accessible(page)
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Choose your role")).to_be_visible()
    accessible(page)
    page.get_by_label("Staff").check()
    press(page, "Continue")
    expect(page.get_by_role("heading", name="Too many sessions")).to_be_visible()
    accessible(page)
    page.get_by_role("radio").check()
    press(page, "End it and continue")
    expect(page.get_by_text("You are in.")).to_be_visible()
    press(page, "Continue")
    expect(page.get_by_role("link", name="Mobile Webmail")).to_have_attribute(
        "href", "https://mail.example.org/"
    )
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
    page.get_by_text("Nothing happens, or no client yet?").click()
    page.get_by_text("What this gateway knows of you").click()
    accessible(page)
    page.get_by_label("Address, name or bookmark").fill("10.77.0.9:443")
    press(page, "Ask")
    expect(page.get_by_role("heading", name="10.77.0.9, TCP port 443")).to_be_visible()
    expect(page.get_by_text("Support code:")).to_be_visible()
    accessible(page)
    page.get_by_label("Address, name or bookmark").fill("no name")
    press(page, "Ask")
    expect(page.get_by_role("alert")).to_contain_text("not the name of a host")
    accessible(page)
    page.get_by_role("link", name="Back").click()
    page.get_by_role("link", name="Password").click()
    accessible(page)
    page.get_by_label("Current password").fill("wrong")
    page.get_by_label("New password", exact=True).fill("another-one")
    page.get_by_label("New password, again").fill("another-one")
    press(page, "Change password")
    expect(page.get_by_role("alert")).to_contain_text("old password is wrong")
    accessible(page)
    page.goto(f"{served.url}nowhere/")
    expect(page.get_by_role("heading", name="Nothing is here")).to_be_visible()
    accessible(page)
    page.goto(served.url)
    press(page, "Sign out")
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    accessible(page)
    page.get_by_role("link", name="Sign in again").click()
    expect(page.get_by_role("heading", name="Please read")).to_be_visible()


def test_start_opens_a_link_or_says_what_to_do(served: Served, new_page: NewPage) -> None:
    """Nothing handles the link in this browser: after a moment the page shows how to install a client."""
    served.call(one_session)
    page = new_page()
    sign_in(page, served)
    with page.expect_response("**/portal/start") as answer:
        press(page, "Start")
    link = answer.value.json()["link"]
    assert re.fullmatch(
        rf"pulsesecureclient://connect\?name=localhost%?[:0-9A]*&server={re.escape(served.url)}&handle=[\w-]{{43}}",
        link,
    ), link
    expect(page.get_by_text("The client did not answer.")).to_be_visible()
    expect(page.get_by_text(f"lockgate connect {served.url}")).to_be_visible()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()


def test_without_script_everything_but_start_works(served: Served, new_page: NewPage) -> None:
    served.call(one_session)
    page = new_page(java_script_enabled=False)
    sign_in(page, served)
    expect(page.get_by_text("Start needs JavaScript")).to_be_visible()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_hidden()
    expect(page.get_by_role("link", name="Mobile Webmail")).to_be_visible()
    page.get_by_role("link", name="Password").click()
    page.get_by_label("Current password").fill(PASSWORD)
    page.get_by_label("New password", exact=True).fill(PASSWORD)
    page.get_by_label("New password, again").fill(PASSWORD)
    press(page, "Change password")
    expect(page.get_by_role("alert")).to_contain_text("is the old one")
    page.get_by_role("link", name="Keep the old one").click()
    press(page, "Sign out")
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()


@pytest.mark.parametrize(("script", "width"), [(True, 1200), (False, 380)])
def test_bookmarks_of_ones_own_and_preferences(
    served: Served, new_page: NewPage, script: bool, width: int
) -> None:
    served.call(one_session)
    look = {"java_script_enabled": script, "viewport": {"width": width, "height": 800}}
    # axe is a script too, so pages without script are looked at by what is on them.
    look_at = accessible if script else (lambda _: None)
    page = new_page(**look)
    sign_in(page, served)
    page.get_by_role("link", name="Add bookmarks of your own").click()
    look_at(page)
    for name in ("Wiki", "Canteen"):
        page.get_by_label("Name").fill(name)
        page.get_by_label("Address").fill(f"https://{name.lower()}.example.org/" + "long/" * 30)
        press(page, "Add bookmark")
    page.get_by_label("Name").fill("Bad")
    page.get_by_label("Address").fill("javascript:alert(1)")
    press(page, "Add bookmark")
    expect(page.get_by_role("alert")).to_contain_text("begins with https://")
    expect(page.get_by_label("Address")).to_have_value("javascript:alert(1)")
    look_at(page)
    press(page, "Move Canteen up")
    rows = page.locator(".own .what b")
    expect(rows).to_have_text(["Canteen", "Wiki"])
    page.get_by_role("link", name="Edit Wiki").click()
    page.get_by_label("Open in a new window").uncheck()
    look_at(page)
    press(page, "Save bookmark")
    look_at(page)
    page.get_by_role("link", name="Back to the home page").click()
    expect(page.get_by_role("link", name=re.compile("Canteen"))).to_have_attribute("target", "_blank")
    expect(page.get_by_role("link", name="Wiki", exact=True).last).not_to_have_attribute("target", "_blank")
    page.get_by_role("link", name="Preferences").click()
    look_at(page)
    page.get_by_label("Dark").check()
    page.get_by_label("Compact").check()
    press(page, "Save preferences")
    expect(page.get_by_role("status").first).to_contain_text("Your preferences are saved.")
    look_at(page)
    expect(page.locator("body")).to_have_css("background-color", "rgb(20, 24, 29)")
    page.get_by_role("link", name="Preferences").click()
    expect(page.get_by_label("Dark")).to_be_checked()
    page.get_by_label("Light", exact=True).check()
    page.get_by_label("Comfortable").check()
    press(page, "Save preferences")
    expect(page.locator("body")).to_have_css("background-color", "rgb(244, 245, 247)")
    page.get_by_role("link", name="Edit your bookmarks").click()
    for name in ("Canteen", "Wiki"):
        press(page, f"Delete {name}")
    expect(page.get_by_text("You have none yet.")).to_be_visible()


def test_a_user_changes_a_password_and_ends_a_session(served: Served, new_page: NewPage) -> None:
    page, other = new_page(), new_page()
    served.call(one_session)
    sign_in(page, served)
    sign_in(other, served)
    page.reload()
    expect(page.get_by_text("This browser", exact=True)).to_have_count(1)
    page.get_by_role("button", name=re.compile("End the session of Chromium on Linux from 127.0.0.1")).click()
    expect(page.get_by_role("button", name=re.compile("End the session"))).to_have_count(0)
    other.reload()
    expect(other.get_by_role("heading", name="Please read")).to_be_visible()
    for old, new in ((PASSWORD, "another-wonderland"), ("another-wonderland", PASSWORD)):
        page.get_by_role("link", name="Password").click()
        page.get_by_label("Current password").fill(old)
        page.get_by_label("New password", exact=True).fill(new)
        page.get_by_label("New password, again").fill(new)
        press(page, "Change password")
        expect(page.get_by_role("status").first).to_contain_text("Your password was changed")


def test_a_password_that_has_to_be_changed(served: Served, new_page: NewPage) -> None:
    page = new_page()
    page.goto(served.url)
    press(page, "Continue")
    page.get_by_label("Users").check()
    press(page, "Continue")
    page.get_by_label("User name").fill("mia")
    page.get_by_label("Password").fill(PASSWORD)
    press(page, "Sign in")
    expect(page.get_by_role("heading", name="Choose a new password")).to_be_visible()
    accessible(page)
    page.get_by_label("Current password").fill(PASSWORD)
    page.get_by_label("New password", exact=True).fill("brand-new-one")
    page.get_by_label("New password, again").fill("brand-new-one")
    press(page, "Change password")
    press(page, "Continue")
    expect(page.get_by_role("heading", name="Hello, mia")).to_be_visible()
