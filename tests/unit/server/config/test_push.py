"""A push goes to the server that it is meant for, whose certificate is verified first, and every failure has its name."""

import contextlib
import http.server
import json
import threading

import pytest

from lockgate.model.problem import ProblemError
from lockgate.protocol.secret import Secret
from lockgate.server.audit import Audit
from lockgate.server.config import edits, push, transfer
from lockgate.server.config.revision import first_revision
from lockgate.server.config.service import ConfigService
from lockgate.server.datadir import DataDirectory
from lockgate.server.vault import open_vault
from tests.unit.server.config.support import TOKEN, default_tree, plain
from tests.unit.server.support import new_store, run
from tests.unit.server.tls_server import TlsServer

ACCEPTED = (200, {"draft": None, "revision": {"number": 7, "warnings": []}})


class Receiver(TlsServer):
    """Another server's administrators' listener: answers every request the same, keeps what it got."""

    def __init__(self, folder, answer):
        self.requests, self.touched = [], threading.Event()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((self.path, dict(self.headers), body))
                status, content = answer
                self.send_response(status)
                self.send_header("Location", "https://127.0.0.1:1/elsewhere")
                self.end_headers()
                self.wfile.write(content if isinstance(content, bytes) else json.dumps(content).encode())

            def log_message(self, *_):
                pass

        super().__init__(folder, Handler)


@contextlib.asynccontextmanager
async def service(folder):
    async with new_store(folder) as store:
        await store.revisions.add(first_revision(default_tree(), "setup", "", 1.0), 0)
        config = ConfigService(store, open_vault(DataDirectory(folder)), Audit(store.audit))
        await config.load()
        await config.apply("ann", "", [edits.Insert("roles/Staff", {"description": "x"})])
        yield config


def target(receiver, **change):
    fields = {
        "name": "other",
        "url": f"https://127.0.0.1:{receiver.port}",
        "token": Secret.of_text(TOKEN),
        "ca": receiver.ca,
    }
    return push.Destination(**{**fields, **change})


def pushed(tmp_path, *targets, parts=None):
    async def work():
        async with service(tmp_path) as config:
            return await push.push(config, targets, parts=parts), config.tree

    return run(work())


def test_what_arrives_can_be_imported(tmp_path):
    with Receiver(tmp_path, ACCEPTED) as receiver:
        [result], tree = pushed(tmp_path, target(receiver))
    assert result.as_dict() == {"target": "other", "ok": True, "revision": 7, "problem": None}
    [(path, headers, body)] = receiver.requests
    assert path == "/api/v1/config/import"
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    request = json.loads(body)
    assert (request["mode"], request["commit"]) == ("replace", True)
    other = plain(default_tree())
    data = transfer.import_(request["document"], other, "replace", Secret.of_text(request["passphrase"])).data
    # Roles and policies come, with the identity that clients are bound to; what is the receiver's own stays.
    assert [role["name"] for role in data["roles"]] == ["Users", "Staff"]
    assert data["cluster"]["server_id"] == tree.cluster.server_id != other["cluster"]["server_id"]
    assert data["cluster"]["node_name"] == other["cluster"]["node_name"]
    for key in ("gateway", "network", "certificates", "admin_realms", "admin_roles", "push_targets"):
        assert data[key] == other[key]
        assert not any(part.split("/")[0] == key for part in request["document"]["parts"])


def test_parts_that_are_named(tmp_path):
    with Receiver(tmp_path, ACCEPTED) as receiver:
        pushed(tmp_path, target(receiver), parts=["roles/Staff", "network/mtu"])
    assert list(json.loads(receiver.requests[0][2])["document"]["parts"]) == ["roles/Staff", "network/mtu"]


REFUSED = {
    "code": "config-invalid",
    "summary": "It cannot be used.",
    "fix": "Correct it.",
    "details": ["roles: \x1b[2J"],
}
ANSWERS = [
    (ACCEPTED, True, "", ""),
    ((409, {"code": "nothing-changed", "summary": "", "fix": ""}), True, "", ""),
    ((422, REFUSED), False, "config-invalid", "other refused it: It cannot be used."),
    ((403, {"code": "not-allowed", "summary": "No.", "fix": "Ask."}), False, "not-allowed", "other refused it: No."),
    ((307, b""), False, "push-failed", "its answer (307)"),
    ((200, b"<html>"), False, "push-failed", "none of a Lockgate server"),
    ((200, b"[" * 100_000), False, "push-failed", "none of a Lockgate server"),
    ((200, b" " * (push.MAX_ANSWER + 9) + b"{}"), False, "push-failed", "none of a Lockgate server"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "ok", "code", "words"), ANSWERS)
def test_what_the_other_server_says(tmp_path, answer, ok, code, words):
    with Receiver(tmp_path, answer) as receiver:
        if ok:
            assert push.send(target(receiver), b"{}").problem is None
        else:
            with pytest.raises(ProblemError) as caught:
                push.send(target(receiver), b"{}")
            assert caught.value.problem.code == code
            assert words in caught.value.problem.summary
            assert caught.value.problem.text().replace("\n", "").isprintable()
            assert TOKEN not in caught.value.problem.text()
    assert len(receiver.requests) == 1


def test_nothing_is_sent_to_a_server_that_nobody_vouches_for(tmp_path):
    (tmp_path / "other").mkdir()
    with Receiver(tmp_path, ACCEPTED) as receiver, Receiver(tmp_path / "other", ACCEPTED) as stranger:
        results, _ = pushed(
            tmp_path,
            target(receiver, name="wrong CA", ca=stranger.ca),
            target(receiver, name="system's CAs", ca=""),
            target(receiver, name="wrong name", url=f"https://localhost:{receiver.port}"),
            target(receiver, name="no CA", ca="-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"),
            target(receiver, name="plain", url=f"http://127.0.0.1:{receiver.port}"),
            target(receiver, name="nobody", url="https://127.0.0.1:1"),
            target(receiver, name="no port", url="https://127.0.0.1:99999"),
            target(receiver, name="no host", url="https://[::"),
            # Pasted with the end of its line: no header, and nothing for the log of an exception.
            target(receiver, name="two lines", token=Secret.of_text(TOKEN + "\n")),
            target(receiver),
        )  # fmt: skip
    words = [
        "cannot be verified",
        "cannot be verified",
        "cannot be verified",
        "its CA is no certificate",
        "no https://",
        "cannot be reached",
        "no https://",
        "no https://",
        "its token is none",
    ]
    for result, said in zip(results, words, strict=False):
        assert result.problem.code == "push-failed"
        assert said in result.problem.summary
        assert TOKEN not in result.problem.text()
    assert results[-1].problem is None
    assert len(receiver.requests) == 1
    assert stranger.requests == []


def test_targets_are_those_of_the_configuration(tmp_path):
    async def work():
        async with service(tmp_path) as config:
            value = {"url": "https://other.example.org:8443", "token": TOKEN}
            await config.apply(
                "ann",
                "",
                [
                    edits.Insert("push_targets/a", value),
                    edits.Insert("push_targets/b", {**value, "token": ""}),
                ],
            )
            vault = open_vault(DataDirectory(tmp_path))
            [found] = push.destinations(config.tree, vault, ["a", "a"])
            assert found.token == Secret.of_text(TOKEN)
            assert TOKEN not in repr(found)
            for name, words in (("b", "has no token"), ("c", "no push target")):
                with pytest.raises(ProblemError, match=words):
                    push.destinations(config.tree, vault, [name])

    run(work())
