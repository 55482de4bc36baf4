"""`python -m tests.lab.enter -- python -m tests.lab.screenshots [FOLDER]`: pictures of the console's main pages.

A gateway with roles, rules and two clients in the lab; what the pictures show is real. FOLDER is docs/screenshots
when nothing is said. It takes about two minutes, most of them waiting for figures to draw.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from tests.lab import Gateway, Lab, OpenConnect, intranet
from tests.lab.browser import chromium, enter_console
from tests.lab.gateway import PASSWORD
from tests.lab.topology import GATEWAY4, INTRANET4

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
SIZE = {"width": 1280, "height": 800}
FIGURES = 60.0  # seconds of figures in the graphs

GROUPS = {"alice": ["staff", "dev"], "bob": ["staff"], "carol": ["extern"]}


def _rule(name: str, group: str, *roles: str) -> dict[str, Any]:
    condition = {"kind": "group", "values": [group], "negate": False}
    return {"name": name, "condition": condition, "roles": list(roles), "stop": False}


def _access(name: str, what: str, to: list[str], ports: list[str], *roles: str, action: str = "allow") -> Any:
    applies = {"to": "selected", "roles": list(roles)} if roles else {"to": "all", "roles": []}
    return {
        "name": name,
        "description": what,
        "action": action,
        "to": to,
        "protocol": "tcp" if ports else "any",
        "ports": ports,
        "applies": applies,
    }


EDITS = [
    {"op": "set", "path": "roles/Staff", "value": {"description": "Employees."}},
    {"op": "set", "path": "roles/Developers", "value": {"description": "May reach the build machines."}},
    {"op": "set", "path": "roles/Contractors", "value": {"session": {"length_seconds": 4 * 3600}}},
    {"op": "set", "path": "realms/Users/rules/Staff", "value": _rule("Staff", "staff", "Staff")},
    {"op": "set", "path": "realms/Users/rules/Developers", "value": _rule("Developers", "dev", "Developers")},
    {"op": "set", "path": "realms/Users/rules/Contractors", "value": _rule("Contractors", "extern", "Contractors")},
    {
        "op": "set",
        "path": "access_control",
        "value": [
            _access("Intranet", "Pages for everybody.", [f"{INTRANET4}/32"], ["80", "443"]),
            _access("Build machines", "Over SSH.", ["10.77.8.0/24"], ["22"], "Developers"),
            _access("Printers", "", ["10.77.12.0/24"], ["631", "9100"], "Staff"),
            _access("No contractors", "", ["10.77.0.0/16"], [], "Contractors", action="deny"),
            _access("Everything else", "", ["10.77.0.0/16"], [], "Staff", "Developers"),
        ],
    },
    {
        "op": "set",
        "path": "bandwidth/Contractors",
        "value": {"down_kbit": 20_000, "up_kbit": 5_000, "applies": {"to": "selected", "roles": ["Contractors"]}},
    },
]  # fmt: skip


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with Lab() as lab:
        intranet.serve(lab.intranet, 20_000_000)
        gateway = Gateway(lab.gateway).initialise()
        for name in GROUPS:
            gateway.add_user(name)
        gateway.start()
        with chromium(lab.gateway) as browser:
            page = _signed_in(browser, gateway, folder)
            _prepare(page)
            clients = [
                OpenConnect(host, user=name, password=PASSWORD, trust=gateway.trust, address=GATEWAY4)
                for name, host in (("alice", lab.client), ("bob", lab.guest))
            ]
            for client in clients:
                client.wait_configured()
            _wait_for_figures(lab)
            _shots(page, gateway, folder)
            for client in clients:
                client.log_out()
        gateway.stop()


def _signed_in(browser: Browser, gateway: Gateway, folder: Path) -> Page:
    page = browser.new_context(ignore_https_errors=True, viewport=SIZE).new_page()
    page.goto(gateway.console_url)
    page.screenshot(path=folder / "sign-in.png")
    enter_console(page, "admin", gateway.admin_password)
    return page


def _prepare(page: Page) -> None:
    """Roles, rules and groups, by REST with the page's own session."""
    token = page.locator("input[name=csrf]").first.input_value()

    def call(method: str, path: str, body: Any) -> None:
        status = page.evaluate(
            """async ([method, path, body, token]) => (await fetch("/api/v1/" + path, {method,
                headers: {"content-type": "application/json", "x-csrf-token": token},
                body: JSON.stringify(body)})).status""",
            [method, path, body, token],
        )
        assert status < 300, (path, status)

    for name, members in GROUPS.items():
        call("PATCH", f"users/System%20Local/{name}", {"groups": members, "full_name": name.capitalize()})
    call("POST", "config/apply", {"edits": EDITS, "reason": "roles for staff, developers and contractors"})


def _wait_for_figures(lab: Lab) -> None:
    end = time.monotonic() + FIGURES
    while time.monotonic() < end:
        lab.client.run(["curl", "-s", "-o", "/dev/null", "-m", "8", f"http://{INTRANET4}/"], check=False)
        time.sleep(2)


def _shots(page: Page, gateway: Gateway, folder: Path) -> None:
    def shot(name: str, path: str, dark: bool = False) -> None:
        page.emulate_media(color_scheme="dark" if dark else "light")
        page.goto(gateway.console_url + path)
        page.wait_for_load_state("networkidle")
        page.screenshot(path=folder / f"{name}.png")

    shot("overview", "")
    shot("overview-dark", "", dark=True)
    shot("active-users", "sessions")
    shot("role-mapping", "settings/user-realms?at=Users&part=role-mapping")
    shot("access-control", "settings/access-control")
    shot("policy-tracing", f"tracing?user=alice&target={INTRANET4}&port=443&protocol=tcp")
    page.goto(gateway.console_url + "settings/user-roles?at=Staff&part=session")
    page.get_by_label("Max. session length").fill("28800")
    page.get_by_label("Idle time-out").fill("3600")
    page.get_by_role("button", name="Save changes").last.click()
    page.get_by_text("Saved in your draft").wait_for()
    page.screenshot(path=folder / "role-session-options.png")
    shot("pending-changes", "changes")
    shot("admin-access-log", "logs/admin-access")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
