"""Whom the client believes, and that nothing of ours is said to anybody else.

The server is the rogue gateway on its best behaviour ("swallow"): it takes any certificate that we make, and tells
what it was sent.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.e2e.client.conftest import Connected, url
from tests.lab import Gateway, Lab, Program, wait_for
from tests.lab.authority import Authority, Issued
from tests.lab.front import Front, Message, obedient
from tests.lab.own_client import OwnClient
from tests.lab.topology import GATEWAY4, GATEWAY6, GATEWAY_NAME

PORT = 21443
URL = f"https://{GATEWAY_NAME}:{PORT}/"
LOCKGATE = str(Path(sys.executable).with_name("lockgate"))
STORE = "/etc/ssl/certs/ca-certificates.crt"

Serve = Callable[..., Program]


@pytest.fixture(scope="module")
def authority(lab: Lab) -> Authority:
    return Authority(lab.gateway.directory / "certificates")


@pytest.fixture
def serve(lab: Lab) -> Iterator[Serve]:
    """`serve(issued)`: a gateway with this certificate, at PORT."""
    running: list[Program] = []

    def start(issued: Issued, address: str = GATEWAY4) -> Program:
        where = f"[{address}]:{PORT}" if ":" in address else f"{address}:{PORT}"
        files = ["--cert", str(issued.certificate), "--key", str(issued.key)]
        line = lab.gateway.python("tests.lab.rogue", "--listen", where, *files, "--script", "swallow")
        running.append(lab.gateway.start(line, "certified"))
        running[-1].wait_log("^ready")
        return running[-1]

    yield start
    for program in running:
        program.stop()


def problem(client: OwnClient, **options: object) -> str:
    """Why a connection came to nothing."""
    with Front(client) as front:
        front.connect(URL, user="alice", **options)  # type: ignore[arg-type]
        assert front.wait("connected") == "failed", front.states
        assert front.prompts == []
        return front.problem


def reaches(client: OwnClient, server: str = URL, **options: object) -> None:
    """A connection comes to be, and is ended again."""
    with Front(client) as front:
        front.connect(server, user="alice", **options)  # type: ignore[arg-type]
        assert front.wait("connected") == "connected", front.states
    client.wait_gone()


def heard(server: Program) -> bool:
    """Whether TLS came to be: before that a client has said nothing but its hello."""
    return ": tls\n" in server.log()


def test_an_authority_that_is_not_trusted(client: OwnClient, authority: Authority, serve: Serve) -> None:
    server = serve(authority.issue(GATEWAY_NAME))
    done = client.connect(URL, check=False)
    assert done.returncode == 1
    assert "was not issued by anybody this machine trusts" in done.stderr
    assert "--ca" in done.stderr
    assert problem(client) == "certificate-untrusted"
    assert not heard(server)
    client.connect(URL, ca=authority.ca_file)
    assert client.connections()[0]["state"] == "connected"
    assert heard(server)


def test_an_authority_of_the_same_name_is_another_one(
    lab: Lab, client: OwnClient, authority: Authority, serve: Serve
) -> None:
    forger = Authority(lab.gateway.directory / "forger")
    server = serve(forger.issue(GATEWAY_NAME))
    assert problem(client, ca=authority.ca_file) == "certificate-untrusted"
    assert not heard(server)


@pytest.mark.parametrize(
    ("names", "begins", "ends", "code"),
    [
        (("elsewhere.test",), -1, 30, "certificate-wrong-name"),
        (("*.other.test", GATEWAY4), -1, 30, "certificate-wrong-name"),
        ((GATEWAY_NAME,), -30, -1, "certificate-expired"),
        ((GATEWAY_NAME,), 1, 30, "certificate-not-yet-valid"),
    ],
)
def test_names_and_dates(
    client: OwnClient,
    authority: Authority,
    serve: Serve,
    names: tuple[str, ...],
    begins: float,
    ends: float,
    code: str,
) -> None:
    issued = authority.issue(*names, begins=begins, ends=ends)
    server = serve(issued)
    assert problem(client, ca=authority.ca_file) == code
    # A user is never asked about these, even where questions are allowed.
    assert problem(client, ca=authority.ca_file, trust_prompt=True) == code
    assert not heard(server)
    reaches(client, pin=issued.pin)  # who names the key has said whom to believe


def test_a_key_that_was_named(client: OwnClient, authority: Authority, serve: Serve) -> None:
    issued, other = authority.issue(GATEWAY_NAME), authority.issue(GATEWAY_NAME)
    server = serve(issued)
    assert problem(client, pin=other.pin) == "certificate-changed"
    assert problem(client, pin=other.pin, ca=authority.ca_file, trust_prompt=True) == "certificate-changed"
    assert not heard(server)
    client.connect(URL, pin=issued.pin)
    assert client.connections()[0]["state"] == "connected"


@pytest.mark.parametrize("address", [GATEWAY4, GATEWAY6])
def test_a_url_with_an_address(client: OwnClient, authority: Authority, serve: Serve, address: str) -> None:
    other = {GATEWAY4: GATEWAY6, GATEWAY6: GATEWAY4}[address]
    server = f"https://[{address}]:{PORT}/" if ":" in address else f"https://{address}:{PORT}/"
    serving = serve(authority.issue(GATEWAY_NAME, other), address)
    with Front(client) as front:
        front.connect(server, ca=authority.ca_file)
        assert front.wait("connected") == "failed"
        assert front.problem == "certificate-wrong-name"
    serving.stop()
    serve(authority.issue(GATEWAY_NAME, address), address)
    reaches(client, server, ca=authority.ca_file)


@pytest.mark.parametrize("address", [GATEWAY4, GATEWAY6])
def test_a_name_with_one_kind_of_address(
    lab: Lab, client: OwnClient, authority: Authority, serve: Serve, address: str
) -> None:
    name = f"v{ip_address(address).version}.lab.test"
    serve(authority.issue(name), address)
    lab.client.name_address(name, address)
    reaches(client, f"https://{name}:{PORT}/", ca=authority.ca_file)


@pytest.mark.parametrize("address", [GATEWAY4, GATEWAY6])
def test_a_name_with_both_of_which_one_answers(
    client: OwnClient, authority: Authority, serve: Serve, address: str
) -> None:
    serve(authority.issue(GATEWAY_NAME), address)
    reaches(client, ca=authority.ca_file)


@pytest.fixture
def system_store(lab: Lab) -> Iterator[Path]:
    """The client host's own certificate store, empty."""
    store = lab.client.directory / "store.crt"
    store.write_text("")
    lab.client.run(["mount", "--bind", str(store), STORE])
    yield store
    lab.client.run(["umount", STORE])


def test_the_system_s_store(
    lab: Lab, system_store: Path, client: OwnClient, authority: Authority, serve: Serve
) -> None:
    issued = authority.issue(GATEWAY_NAME)
    server = serve(issued)
    assert problem(client) == "certificate-untrusted"
    assert not heard(server)
    damaged = "-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n"
    system_store.write_text(damaged + authority.ca_file.read_text())
    reaches(client)
    # Who was verified once is never offered for a user to accept: this is a stranger in between.
    system_store.write_text("")
    assert problem(client, trust_prompt=True) == "certificate-untrusted"
    # A CA that was given replaces the store, and says nothing about others.
    forger = Authority(lab.gateway.directory / "given")
    system_store.write_text(authority.ca_file.read_text())
    assert problem(client, ca=forger.ca_file) == "certificate-untrusted"


def accepting(yes: bool) -> Callable[[Message], Message | None]:
    usual = obedient()
    return lambda prompt: {"accept": yes} if prompt["kind"] == "certificate" else usual(prompt)


def test_a_key_that_the_user_accepts(client: OwnClient, authority: Authority, serve: Serve) -> None:
    issued, later = authority.issue(GATEWAY_NAME), authority.issue(GATEWAY_NAME)
    server = serve(issued)
    with Front(client, accepting(False)) as front:
        front.connect(URL, trust_prompt=True)
        assert front.wait("connected") == "failed"
        [prompt] = front.prompts
    assert (prompt["reason"], prompt["pin"]) == ("untrusted", issued.pin)
    assert (prompt["subject"], prompt["issuer"]) == (GATEWAY_NAME, "Test authority ca")
    assert prompt["names"] == [GATEWAY_NAME]
    assert not heard(server)
    with Front(client, accepting(True)) as front:
        front.connect(URL, trust_prompt=True)
        assert front.wait("connected") == "connected"
        assert [prompt["kind"] for prompt in front.prompts] == ["certificate", "credentials"]
    client.wait_gone()
    reaches(client)  # remembered, without a question
    client.leave()
    client.start()
    reaches(client)  # and by the next service
    server.stop()
    server = serve(later)
    assert problem(client, trust_prompt=True) == "certificate-changed"
    assert not heard(server)


def test_a_certificate_that_verifies_relieves_the_key_that_was_accepted(
    system_store: Path, client: OwnClient, authority: Authority, serve: Serve
) -> None:
    server = serve(authority.issue(GATEWAY_NAME))
    with Front(client, accepting(True)) as front:
        front.connect(URL, trust_prompt=True)
        assert front.wait("connected") == "connected"
    client.wait_gone()
    server.stop()
    serve(authority.issue(GATEWAY_NAME))
    system_store.write_text(authority.ca_file.read_text())
    reaches(client)
    known = json.loads((client.state_dir / "known-hosts.json").read_text())
    assert known == {f"{GATEWAY_NAME}:{PORT}": {"verified": True, "pin": ""}}


@pytest.mark.parametrize("answer", ["yes", "no"])
def test_the_question_at_a_terminal(
    lab: Lab, client: OwnClient, authority: Authority, serve: Serve, answer: str
) -> None:
    issued = authority.issue(GATEWAY_NAME)
    server = serve(issued)
    # `script` gives the command a terminal; what is typed ahead waits for its question. With `exec`, because a shell
    # that stays between them may end from the Ctrl-C as well, and its status is not the command's.
    line = f"exec {LOCKGATE} connect {URL} --user alice"
    terminal = lab.client.start(
        ["script", "--quiet", "--return", "--flush", "--command", line, "/dev/null"],
        f"terminal-{answer}",
        input="",
        hold=True,
        environment=client.environment,
    )
    terminal.wait_log("Trust this key for this gateway")
    assert issued.pin in terminal.log()
    assert not heard(server)
    keys = terminal.process.stdin
    assert keys is not None
    keys.write(f"{answer}\n".encode())
    keys.flush()
    if answer == "no":
        assert terminal.wait(deadline=30) == 1
        assert "was not issued by anybody this machine trusts" in terminal.log()
        assert not heard(server)
        keys.close()
        return
    terminal.wait_log("Password: ")
    keys.write(b"secret\n")
    keys.flush()
    client.wait_state("connected")
    assert "secret" not in terminal.log()
    keys.write(b"\x03")  # Ctrl-C
    keys.flush()
    assert terminal.wait(deadline=30) == 0
    keys.close()


@pytest.mark.parametrize("believed", ["CA", "key"])
def test_another_certificate_does_not_get_the_session(
    client: OwnClient, authority: Authority, serve: Serve, believed: str
) -> None:
    """Not even a good one: somebody in between may have one too."""
    issued, other = authority.issue(GATEWAY_NAME), authority.issue(GATEWAY_NAME)
    first = serve(issued)
    options = {"ca": authority.ca_file} if believed == "CA" else {"pin": issued.pin}
    client.connect(URL, **options)  # type: ignore[arg-type]
    client.wait_state("connected")
    first.process.kill()
    first.wait()
    second = serve(other)
    client.wait_state("failed", deadline=30)
    assert client.connections()[0]["problem"]["code"] == "certificate-changed"
    assert not heard(second)


def test_the_same_certificate_does(client: OwnClient, authority: Authority, serve: Serve) -> None:
    issued = authority.issue(GATEWAY_NAME)
    first = serve(issued)
    client.connect(URL, ca=authority.ca_file)
    client.wait_state("connected")
    first.process.kill()
    first.wait()
    second = serve(issued)
    wait_for(lambda: "resumed" in second.log(), "the session is taken up", deadline=30)
    client.wait_state("connected")


def test_the_gateway_s_own_certificate(gateway: Gateway, connected: Connected) -> None:
    client = connected(gateway, host=GATEWAY6)
    assert client.live()["tls"]["version"] == "TLSv1.3"
    client.disconnect()
    assert client.connect(url(gateway), check=False).returncode == 1
