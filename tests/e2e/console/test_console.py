"""The administrators' console of a running gateway in a real browser: with script, without, by keyboard."""

from __future__ import annotations

from collections.abc import Iterator

from playwright.sync_api import Page, expect

from lockgate.server.config.registry import PAGES
from lockgate.server.web.console.menu import entries
from tests.e2e.conftest import Connect
from tests.e2e.console.conftest import Console
from tests.lab.browser import violations
from tests.lab.gateway import PASSWORD


def addresses() -> Iterator[str]:
    """Every page of the menu, the form of every collection, and the parts of the objects that every gateway has."""
    for entry in entries():
        yield entry.url
    for which in ("user-realms", "user-roles", "access-control", "sign-in-policies", "push-targets"):
        yield f"/admin/settings/{which}?new=1"
    for which, name in (("user-realms", "Users"), ("user-roles", "Users"), ("connections", "Default")):
        page = next(each for each in PAGES if each.id == which)
        for part in page.parts:
            yield f"/admin/settings/{which}?at={name}&part={part.id}"
    yield "/admin/settings/user-realms?at=Users/rules/Everybody"
    yield "/admin/settings/connections?at=Default/connections/Default%20connection"
    yield "/admin/settings/gateway/json"
    yield "/admin/changes"
    yield "/admin/settings/access-control?q=policy"  # with its filter
    yield "/admin/revisions/1"
    yield "/admin/revisions?path=realms/Users"
    yield "/admin/users/new"
    yield "/admin/users/one?server=Administrators&name=admin"
    yield "/admin/search?q=session"
    yield "/admin/tracing?user=nobody&target=192.0.2.1"
    yield "/admin/no-such-page-of-settings"


def test_every_page_is_accessible(console: Console) -> None:
    page = console.signed_in()
    found: list[str] = []
    for address in addresses():
        page.goto(console.url[: -len("/admin/")] + address)
        # Menu and top bar are the same everywhere; the next test looks at whole pages.
        found += violations(page, "#main")
        assert page.title().endswith("Lockgate"), address
    assert found == []


def test_dark_and_narrow_pages_are_accessible(console: Console) -> None:
    some = ["", "changes", "sessions", "logs/admin-access", "settings/access-control", "tokens", "sign-in"]
    some += ["settings/user-realms?at=Users&part=source", "settings/user-realms?at=Users/rules/Everybody"]
    found = []
    for options in ({"color_scheme": "dark"}, {"screen": {"width": 380, "height": 780}}):
        page = console.signed_in(**options)
        if "screen" in options:
            page.set_viewport_size({"width": 380, "height": 780})
        assert page.evaluate("document.documentElement.dataset.bsTheme") == options.get(
            "color_scheme", "light"
        )
        for address in some:
            page.goto(console.url + address)
            found += violations(page)
    assert found == []


def test_a_wrong_password_and_a_page_that_was_wanted(console: Console) -> None:
    page = console.open()
    page.goto(console.url + "settings/gateway")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("User name or password is wrong")
    assert violations(page) == []
    page.get_by_label("Password").fill(console.gateway.admin_password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Gateway")
    page.locator(".lg-person summary").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    page.goto(console.url + "settings/gateway")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def change_a_realm(page: Page, console: Console, role: str) -> None:
    """A role, a rule that gives it, and where the realm's users may come from: all the way to a revision."""
    script = page.evaluate("document.documentElement.classList.contains('has-script')")
    page.goto(console.url + "settings/user-roles")
    page.get_by_role("link", name="New role").click()
    page.get_by_role("textbox", name="Name").fill(role)
    page.get_by_role("button", name="Add to draft").click()
    expect(page.get_by_text("Added to your draft")).to_be_visible()
    page.goto(console.url + f"settings/user-roles?at={role}&part=session")
    page.get_by_label("Max. session length").fill("soon")
    page.get_by_role("button", name="Save changes").last.click()
    expect(page.get_by_role("alert")).to_contain_text("a whole number from 5")
    expect(page.get_by_label("Max. session length")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Max. session length").fill("7200")
    page.get_by_role("button", name="Save changes").last.click()
    expect(page.get_by_text("Saved in your draft")).to_be_visible()

    page.goto(console.url + "settings/user-realms?at=Users&part=role-mapping")
    page.get_by_role("link", name="New rule").click()
    page.get_by_role("textbox", name="Name").fill(role)
    page.get_by_label("Kind").select_option("group")
    if not script:
        page.get_by_role("button", name="Change kind").click()
    expect(page.get_by_text("Membership in a group")).to_be_visible()
    expect(page.get_by_role("textbox", name="Name")).to_have_value(role)
    page.get_by_role("textbox", name="Values").fill("staff")
    page.get_by_label("Available").select_option(role)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_label("Selected")).to_contain_text(role)
    page.get_by_role("button", name="Add to draft").last.click()
    expect(page.get_by_text("Added to your draft")).to_be_visible()

    page.goto(console.url + "settings/user-realms?at=Users&part=source")
    for number, network in enumerate(("192.0.2.0/24", "198.51.100.0/24"), 1):
        page.get_by_role("button", name="Add", exact=True).click()
        expect(page.get_by_role("textbox", name="Network")).to_have_count(number)
        page.get_by_role("textbox", name="Network").last.fill(network)
    page.get_by_role("button", name="Down: Rules 1").click()
    expect(page.get_by_role("textbox", name="Network").first).to_have_value("198.51.100.0/24")
    page.get_by_role("button", name="Save changes").last.click()
    expect(page.get_by_text("Saved in your draft")).to_be_visible()

    page.get_by_role("link", name="Review changes").click()
    expect(page.get_by_role("heading", level=2, name="3 changes")).to_be_visible()
    page.get_by_role("textbox", name="Reason").fill(f"{role} may come in")
    page.get_by_role("button", name="Commit 3 changes").click()
    expect(page.get_by_text("The new revision is in force")).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text(f"{role} may come in")


def test_the_whole_way_without_script(console: Console) -> None:
    page = console.signed_in(java_script_enabled=False)
    change_a_realm(page, console, "Plain")
    page.goto(console.url + "revisions/1")
    page.get_by_role("button", name="Roll back to revision 1").click()
    expect(page.get_by_text("The new revision is in force")).to_be_visible()
    page.goto(console.url + "logs/admin-access?event=config-committed")
    assert page.get_by_role("rowheader", name="config-committed").count() >= 3
    page.get_by_role("button", name="Verify").click()
    expect(page.get_by_role("status")).to_contain_text("The audit is whole")


def test_the_whole_way_with_script_and_where_the_focus_goes(console: Console) -> None:
    page = console.signed_in()
    change_a_realm(page, console, "Swift")

    def focused() -> str:
        return str(page.evaluate("document.activeElement.textContent || document.activeElement.id"))

    page.get_by_text("Authentication", exact=True).click()
    page.get_by_role("link", name="Auth Servers").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Auth servers")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    assert page.evaluate("performance.getEntriesByType('navigation')[0].name") != page.url, "it was no swap"
    page.get_by_role("link", name="System Local").click()
    page.get_by_label("Minimum length").fill("0")
    page.get_by_role("button", name="Save changes").last.click()
    expect(page.get_by_role("alert")).to_be_focused()
    page.get_by_role("alert").get_by_role("link", name="Minimum length").click()
    expect(page.get_by_label("Minimum length")).to_be_focused()
    page.get_by_label("Minimum length").fill("12")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="Saved")).to_be_focused()
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.keyboard.press("Escape")
    page.goto(console.url + "changes")
    page.get_by_role("button", name="Discard draft").click()
    expect(page.get_by_text("The draft is gone")).to_be_visible()
    assert "draft is gone" in focused()


def test_by_keyboard_alone(console: Console) -> None:
    page = console.signed_in()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox", name="Search pages")).to_be_focused()
    page.keyboard.type("idle time")
    expect(page.locator("#found a").first).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    page.goto(console.url)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


def test_sessions_are_shown_explained_and_ended(console: Console, connect: Connect) -> None:
    gateway = console.gateway
    gateway.add_user("walter")
    client = connect(gateway, user="walter", password=PASSWORD).wait_configured()
    page = console.signed_in()
    page.goto(console.url + "sessions?q=walter")
    row = page.get_by_role("row").filter(has_text="walter")
    expect(row).to_contain_text("198.51.100.2")
    row.get_by_role("link", name="walter").click()
    page.get_by_role("link", name="Policy tracing").click()
    page.get_by_label("Wants to reach").fill("10.77.0.10")
    page.get_by_label("Port", exact=True).fill("443")
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("#verdict")).to_contain_text("Allowed")
    assert violations(page) == []
    page.goto(console.url + "sessions")
    page.get_by_role("checkbox", name="Choose walter").check()
    page.get_by_role("button", name="Disconnect chosen").click()
    expect(page.get_by_text("Nobody is connected")).to_be_visible()
    client.program.wait(deadline=20.0)


def test_two_administrators_change_the_same(console: Console) -> None:
    page = console.signed_in()
    page.goto(console.url + "users/new?server=Administrators")
    page.get_by_label("User name").fill("second")
    page.get_by_label("Password", exact=False).first.fill(PASSWORD)
    page.get_by_label("Password, again").fill(PASSWORD)
    page.get_by_role("button", name="Add user").click()
    expect(page.get_by_text("The user has been added")).to_be_visible()
    other = console.signed_in("second", PASSWORD)
    for each, text in ((page, "Ours"), (other, "Theirs")):
        each.goto(console.url + "settings/cluster")
        each.get_by_label("Cluster name").fill(text)
        each.get_by_role("button", name="Save changes").last.click()
        expect(each.get_by_text("Saved in your draft")).to_be_visible()
    other.goto(console.url + "changes")
    other.get_by_role("button", name="Commit 1 change").click()
    expect(other.get_by_text("The new revision is in force")).to_be_visible()
    page.goto(console.url + "changes")
    expect(page.get_by_role("alert")).to_contain_text("Theirs")
    assert violations(page) == []
    page.get_by_role("button", name="Keep mine").click()
    page.get_by_role("button", name="Commit 1 change").click()
    expect(page.get_by_text("The new revision is in force")).to_be_visible()
    expect(page.get_by_role("main")).to_contain_text("Ours")
