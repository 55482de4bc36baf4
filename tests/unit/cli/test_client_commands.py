"""The commands about connections, as real processes before a service that a test plays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import termios

import pytest

from tests.unit.cli.scripted_service import DETAILS, STATUS, Service, state

URL = "https://gw.example.org/"


@pytest.fixture
def service(tmp_path):
    service = Service(tmp_path)
    yield service
    service.close()


def problem(text):
    return json.loads(text)["error"]


# -- commands that ask once -------------------------------------------------------------------------------

ONCE = [
    (("status",), "status", {}, {"connections": []}, "no connections"),
    (("disconnect",), "disconnect", {}, {"connection": "c1"}, "disconnected"),
    (("disconnect", "c1"), "disconnect", {"connection": "c1"}, {"connection": "c1"}, "disconnected"),
    (("suspend", "c1"), "suspend", {"connection": "c1"}, {"connection": "c1"}, "suspended"),
    (("resume",), "resume", {}, {"connection": "c1"}, "resumed"),
    (("client", "sleep"), "sleep", {}, {}, "the connections are prepared"),
    (("client", "wake"), "wake", {}, {}, "the connections come back"),
    (("client", "annotate", "here"), "annotate", {"text": "here"}, {}, "written"),
    (("client", "log-level", "5"), "log-level", {"level": 5}, {}, "the debug log has level 5 now"),
    (("client", "stop"), "stop", {"keep": False}, {}, "the service and its connections end"),
    (("client", "stop", "--keep"), "stop", {"keep": True}, {}, "the service ends, its tunnels stay"),
]


@pytest.mark.parametrize(
    ("words", "op", "fields", "result", "text"), ONCE, ids=[" ".join(row[0]) for row in ONCE]
)
def test_a_question_and_its_answer(service, words, op, fields, result, text):
    process = service.command(*words)
    assert service.accept().serve(op, result) == fields
    assert process.output() == (0, text + "\n", "")
    process = service.command(*words, "--json")
    service.accept().serve(op, result)
    status, out, _ = process.output()
    assert (status, json.loads(out)) == (0, result)


def test_a_refusal_is_shown_without_what_steers_a_terminal(service):
    process = service.command("resume")
    caller = service.accept()
    caller.request("resume")
    caller.refuse("wrong-state", "It is \x1b[31m\N{RIGHT-TO-LEFT OVERRIDE}not\r suspended.", "Wait.")
    assert process.output() == (1, "", "error: It is [31mnot suspended. Wait.\n")


def test_a_caller_who_may_not_even_ask(service):
    process = service.command("status", "--json")
    caller = service.accept()
    caller.say({"id": None, "error": {"code": "not-allowed", "summary": "No.", "fix": "Ask.", "details": []}})
    caller.close()
    status, out, _ = process.output()
    assert (status, problem(out)["code"]) == (1, "not-allowed")


@pytest.mark.parametrize(
    "answer", [b"", b"x\n", b"[]\n", b'{"id":1}\n', b'{"id":1,"result":3}\n', b"[" * 300_000]
)
def test_a_service_that_does_not_speak_as_it_should(service, answer):
    process = service.command("status", "--json")
    caller = service.accept()
    caller.request("status")
    caller.say(answer)
    caller.close()
    status, out, err = process.output()
    assert (status, err) == (1, "")
    assert problem(out)["code"] == ("client-garbled" if answer else "client-gone")


def test_without_a_service(service):
    service.die()
    status, out, err = service.command("status").output()
    assert (status, out) == (1, "")
    assert "does not run" in err
    assert "lockgate client run" in err


@pytest.mark.skipif(os.geteuid() != 0, reason="plays another user")
def test_passwords_do_not_go_to_a_stranger(tmp_path, service):
    service.die()
    tmp_path.chmod(0o777)
    program = (
        "import os, socket, sys\nos.chdir(sys.argv[1])\nos.unlink('client.sock')\nos.setuid(12345)\n"
        "s = socket.socket(socket.AF_UNIX)\ns.bind('client.sock')\ns.listen()\nprint('ready', flush=True)\n"
        "c = s.accept()[0]\nprint(c.recv(100), flush=True)"
    )
    stranger = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    with stranger:
        assert stranger.stdout.readline() == b"ready\n"
        status, out, _ = service.command("connect", URL, "--json").output()
        assert stranger.stdout.read() == b"b''\n"
    assert (status, problem(out)["code"]) == (1, "client-stranger")


def test_status_as_a_table(service):
    process = service.command("status")
    failed = STATUS | {
        "connection": "c2",
        "name": "x\x1b",
        "state": "reconnecting",
        "note": "no network",
        "since": None,
    }
    service.accept().serve("status", {"connections": [STATUS, failed]})
    status, out, _ = process.output()
    head, first, second, note = out.splitlines()
    assert status == 0
    assert head.split() == ["ID", "NAME", "USER", "STATE", "TRANSPORT", "SINCE", "ADDRESSES"]
    assert first.split()[:5] == ["c1", "gw.example.org", "alice", "connected", "ESP"]
    assert first.endswith("10.88.0.5 fd12::5")
    assert second.split()[:4] == ["c2", "x", "alice", "reconnecting"]
    assert note == "c2: reconnecting: no network"


# -- details ----------------------------------------------------------------------------------------------


def test_details_for_people(service):
    process = service.command("details")
    assert service.accept().serve("details", DETAILS) == {}
    _, out, _ = process.output()
    lines = dict(
        line.split(None, 1) for line in out.splitlines() if not line.startswith(("VPN", "Through", "Idle"))
    )
    assert lines["State"] == "connected over ESP"
    assert lines["Session"] == "for 00:01:01, 2 days 03:04:05 left"
    assert lines["Addresses"] == "10.88.0.5  fd12::5"
    assert lines["Received"] == "1.5 KiB in 7 packets"
    assert lines["Sent"] == "3.0 GiB in 8 packets"
    assert "VPN type        ESP  (AES-256-GCM)" in out
    assert "Idle limit      00:10:00" in out
    assert "Through tunnel  10.77.0.0/16" in out


def test_watching_prints_an_object_a_line_until_the_connection_is_gone(service):
    process = service.command("details", "--watch", "--json")
    caller = service.accept()
    assert caller.serve("details", DETAILS) == {}
    assert caller.serve("details", DETAILS | {"bytes_in": 9}) == {"connection": "c1"}
    caller.request("details")
    caller.refuse("no-such-connection")
    status, out, _ = process.output()
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[:2] == [DETAILS, DETAILS | {"bytes_in": 9}]
    assert (status, lines[2]["error"]["code"]) == (1, "no-such-connection")


def test_watching_at_a_terminal_draws_over_itself_until_ctrl_c(service):
    process = service.command("details", "--watch", terminal=True)
    caller = service.accept()
    caller.serve("details", DETAILS)
    first = process.until("in 8 packets\r\n")
    lines = first.count("\r\n")
    caller.serve("details", DETAILS | {"packets_out": 4711})
    assert process.until("in 4711 packets").startswith(f"\x1b[{lines}A\x1b[J")
    process.type("\x03")
    assert process.wait() == 0


# -- connect: the request ---------------------------------------------------------------------------------


def test_the_request_holds_what_the_options_say(service, tmp_path):
    ca = tmp_path / "ca.pem"
    ca.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    process = service.command(
        *("connect", "gw.example.org:8443", "--user", "alice", "--realm", "Staff", "--ca", str(ca)),
        *("--pin", "SHA256:" + "AB" * 32, "--proxy", "none", "--no-esp", "--background", "--name", "work"),
    )
    caller = service.accept()
    assert caller.request("connect") == {
        "server": "https://gw.example.org:8443",
        "user": "alice",
        "realm": "Staff",
        "ca": ca.read_text(),
        "pin": "sha256:" + "ab" * 32,
        "proxy": "",
        "esp": False,
        "background": True,
        "name": "work",
        "trust_prompt": False,
    }
    caller.refuse("bad-request", "server: no.")
    assert process.output()[0] == 1


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("http://gw/",),
        ("https://",),
        ("https://alice:canary@gw/",),
        (URL, "--pin", "sha256:00"),
        (URL, "--pin", "ab" * 32),
        (URL, "--proxy", "http://bob:canary@proxy:3128"),
        (URL, "--ca", "/nonexistent"),
        (URL, "--password", "canary"),
    ],
)
def test_wrong_options(service, words):
    status, out, err = service.command("connect", *words).output()
    assert (status, out) == (2, "")
    assert "canary" not in err


def test_a_ca_file_that_is_none(service, tmp_path):
    (tmp_path / "ca.pem").write_bytes(b"\xff")
    status, out, _ = service.command("connect", URL, "--ca", str(tmp_path / "ca.pem"), "--json").output()
    assert (status, problem(out)["code"]) == (1, "bad-ca")


def test_what_every_connect_imports_is_light():
    program = (
        "import sys\nimport lockgate.cli.connect\n"
        "heavy = {'asyncio', 'ssl', 'structlog', 'hmac', 'pathlib', 'pydantic', 'cryptography', 'msgpack',"
        " 'ipaddress', 'lockgate.cli.questions', 'lockgate.protocol.secret'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


# -- connect: between pipes -------------------------------------------------------------------------------


def test_in_the_background_as_json(service):
    process = service.command(
        "connect",
        URL,
        "--user",
        "alice",
        "--password-stdin",
        "--background",
        "--json",
        stdin=b"wonder\r\n1234",
    )
    caller = service.accept()
    request = caller.serve("connect", {"connection": "c1"})
    assert "password" not in request
    caller.say(state("connecting"))
    credentials = {"username": True, "user": "alice", "user_label": "", "password_label": "", "retry": False}
    assert caller.prompt("credentials", **credentials, secondary=False) == {
        "fields": {"username": "alice", "password": "wonder"}
    }
    assert caller.prompt("token", text="Code?") == {"fields": {"code": "1234"}}
    caller.say(state("connected", transport="tls", note="\x7f\N{RIGHT-TO-LEFT OVERRIDE}ü"))
    assert caller.serve("details", DETAILS) == {"connection": "c1"}
    assert caller.is_gone()  # and so the service leaves the connection as it is
    status, out, err = process.output()
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        '{"event": "state", "connection": "c1", "state": "connecting", "transport": null, "note": "",'
        ' "problem": null, "attempt": 1}',
        '{"event": "state", "connection": "c1", "state": "connected", "transport": "tls",'
        ' "note": "\\u007f\\u202eü", "problem": null, "attempt": 1}',
        json.dumps({"event": "details", **DETAILS}),
    ]


def test_states_are_lines_where_there_is_no_terminal(service):
    process = service.command("connect", URL)
    caller = service.accept()
    caller.connected()
    caller.say(state("reconnecting", attempt=2, note="no network"), state("connected", transport="tls"))
    caller.say(state("disconnected"))
    status, out, err = process.output()
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == ["connecting", "connected over ESP"]
    assert lines[-3:] == ["reconnecting (attempt 2): no network", "connected over TLS", "disconnected"]


def test_a_wrong_password_and_no_further_line(service):
    process = service.command(
        "connect", URL, "--user", "alice", "--password-stdin", "--json", stdin=b"canary\n"
    )
    caller = service.accept()
    caller.serve("connect", {"connection": "c1"})
    asked = {"username": True, "user": "", "user_label": "", "password_label": "", "secondary": False}
    assert caller.prompt("credentials", retry=False, **asked)["fields"]["password"] == "canary"
    assert caller.prompt("credentials", retry=True, **asked) == {"cancel": True}
    assert caller.request("disconnect") == {"connection": "c1"}
    caller.say(state("failed", problem={"code": "cancelled", "summary": "s", "fix": "f", "details": []}))
    status, out, err = process.output()
    assert (status, json.loads(out.splitlines()[-1])["error"]["code"]) == (1, "no-password")
    assert "canary" not in out + err


@pytest.mark.parametrize(
    ("stdin", "kind", "fields", "code"),
    [
        (b"", "credentials", {"username": True, "user": "alice"}, "no-password"),
        (b"", "credentials", {"username": True, "user": ""}, "no-terminal"),
        (b"", "realm", {"choices": []}, "no-terminal"),
        (b"", "realm", {"choices": ["A", "B"]}, "choice-needed"),
        (b"", "session", {"sessions": [{"id": "1"}, {"id": "2"}]}, "choice-needed"),
        (b"", "notice", {"text": "x"}, "no-terminal"),
        (b"", "certificate", {"reason": "untrusted", "names": []}, "no-terminal"),
        (b"", "dance", {}, "unknown-prompt"),
        (b"\xff\n", "token", {"text": "x"}, "bad-password"),
        (b"x" * 5000, "token", {"text": "x"}, "bad-password"),
    ],
)
def test_questions_nobody_can_answer(service, stdin, kind, fields, code):
    words = ("--password-stdin",) if stdin else ()
    process = service.command("connect", URL, *words, "--json", stdin=stdin)
    caller = service.accept()
    caller.serve("connect", {"connection": "c1"})
    assert caller.prompt(kind, **fields) == {"cancel": True}
    caller.request("disconnect")
    caller.refuse("no-such-connection")
    status, out, err = process.output()
    assert (status, err) == (1, "")
    assert json.loads(out.splitlines()[-1])["error"]["code"] == code


def test_a_refused_sign_in(service):
    process = service.command("connect", URL)
    caller = service.accept()
    caller.serve("connect", {"connection": "c1"})
    refusal = {"code": "refused", "summary": "The gateway says: \x1b]0;no\x07.", "fix": "Ask.", "details": []}
    caller.say(state("failed", problem=refusal))
    status, out, err = process.output()
    assert status == 1
    assert err == "error: The gateway says: ]0;no. Ask.\n"
    assert out.splitlines()[-1] == "failed: The gateway says: ]0;no."


def test_the_service_goes_in_the_middle_of_the_sign_in(service):
    process = service.command("connect", URL, "--json")
    caller = service.accept()
    caller.serve("connect", {"connection": "c1"})
    caller.say(state("signing-in"), b'{"event": "sta')
    caller.close()
    status, out, _ = process.output()
    assert (status, json.loads(out.splitlines()[-1])["error"]["code"]) == (1, "client-gone")


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_the_service_is_started_anew_under_an_established_connection(service, words):
    process = service.command("connect", URL, *words)
    service.accept().connected()
    service.die()
    service.listen()
    caller = service.accept()
    assert caller.request("attach") == {"connection": "c1"}
    caller.answer({"connection": "c1", "status": STATUS})
    process.send(signal.SIGTERM)
    assert caller.serve("disconnect", {"connection": "c1"}) == {"connection": "c1"}
    status, out, _ = process.output()
    assert status == 0
    last = out.splitlines()[-1]
    if words:
        assert json.loads(last) == state("connected", transport="esp", attempt=0)
    else:
        assert last == "connected over ESP"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_waits_for_the_restoration(service, number):
    process = service.command("connect", URL)
    caller = service.accept()
    caller.connected()
    process.send(number)
    assert caller.request("disconnect") == {"connection": "c1"}
    caller.say(state("disconnecting"))
    assert process.process.poll() is None
    caller.say(state("disconnected"))
    status, out, err = process.output()
    assert (status, err) == (0, "")
    assert out.splitlines()[-2:] == ["disconnecting", "disconnected"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_it_is_established(service, number):
    process = service.command("connect", URL)
    caller = service.accept()
    caller.request("connect")
    process.send(number)
    caller.answer({"connection": "c1"})  # only now is there something to end
    caller.serve("disconnect", {"connection": "c1"})
    assert process.output()[0] == 128 + number


def test_a_signal_that_overtakes_the_word_of_the_connection(service):
    process = service.command("connect", URL)
    caller = service.accept()
    caller.request("connect")
    caller.answer({"connection": "c1"})
    process.send(signal.SIGINT)
    assert caller.request("disconnect") == {"connection": "c1"}
    caller.say(state("connected", transport="esp"))  # it was, before the service heard of the signal
    caller.say(state("disconnecting"))
    caller.say(state("disconnected"))
    assert process.output()[0] == 0


def test_a_disconnection_that_fails_is_no_success(service):
    process = service.command("connect", URL)
    caller = service.accept()
    caller.connected()
    process.send(signal.SIGINT)
    caller.request("disconnect")
    caller.refuse("internal-error", "The client service made a mistake.", "See its log.")
    status, _, err = process.output()
    assert (status, err) == (1, "error: The client service made a mistake. See its log.\n")


def test_the_second_ctrl_c_does_not_wait(service):
    process = service.command("connect", URL)
    caller = service.accept()
    caller.connected()
    process.send(signal.SIGINT)
    caller.request("disconnect")
    process.send(signal.SIGINT)
    assert process.output()[0] == 130


def test_a_reader_that_leaves_ends_it(service):
    process = service.command("connect", URL)
    caller = service.accept()
    caller.serve("connect", {"connection": "c1"})
    process.process.stdout.close()
    caller.say(state("connecting", note="nobody reads this"))
    assert caller.serve("disconnect", {"connection": "c1"}) == {"connection": "c1"}
    assert process.wait() == 128 + signal.SIGHUP


# -- connect: at a terminal -------------------------------------------------------------------------------


def test_a_whole_sign_in_at_a_terminal(service):
    process = service.command("connect", URL, terminal=True)
    caller = service.accept()
    assert caller.serve("connect", {"connection": "c1"})["trust_prompt"] is True
    caller.say(state("signing-in"))
    caller.say(
        {"event": "prompt", "connection": "c1", "prompt": 7, "kind": "realm", "choices": ["Staff", "Users"]}
    )
    process.until("name): ")
    process.type("3\n")
    process.until("name): ")
    process.type("users\n")
    assert caller.answered() == {"fields": {"realm": "Users"}}
    asked = {
        "username": True,
        "user": "",
        "user_label": "Badge\x1b",
        "password_label": "",
        "secondary": False,
    }
    caller.say(
        {"event": "prompt", "connection": "c1", "prompt": 7, "kind": "credentials", "retry": False, **asked}
    )
    assert "Badge: " in process.until("Badge: ")
    process.type("alice\n")
    process.until("Password: ")
    process.type("canary\n")
    assert caller.answered() == {"fields": {"username": "alice", "password": "canary"}}
    caller.say({"event": "prompt", "connection": "c1", "prompt": 7, "kind": "new-password"})
    for question, typed in (
        ("Old password: ", "canary"),
        ("New password: ", "canary one"),
        ("New password again: ", "canary two"),
        ("not the same. Once more:\r\nNew password: ", "canary-new"),
        ("New password again: ", "canary-new"),
    ):
        process.until(question)
        process.type(typed + "\n")
    assert caller.answered() == {"fields": {"old": "canary", "new": "canary-new"}}
    caller.say(state("connected", transport="esp"))
    caller.serve("details", DETAILS)
    process.until("Ctrl-C disconnects.\r\n")
    process.type("\x03")
    caller.serve("disconnect", {"connection": "c1"})
    assert process.wait() == 0
    assert "canary" not in process.shown
    assert termios.tcgetattr(process.slave)[3] & termios.ECHO


def test_the_state_is_one_line_that_changes(service):
    process = service.command("connect", URL, terminal=True)
    caller = service.accept()
    caller.connected()
    process.until("Ctrl-C disconnects.\r\n")
    caller.say(state("reconnecting", attempt=0, note="x" * 200), state("connected", transport="tls"))
    assert process.until("over TLS") == f"\r\x1b[Kreconnecting: {'x' * 85}\r\x1b[Kconnected over TLS"


def test_ctrl_c_at_a_hidden_question(service):
    process = service.command("connect", URL, terminal=True)
    caller = service.accept()
    caller.serve("connect", {"connection": "c1"})
    caller.say(
        {"event": "prompt", "connection": "c1", "prompt": 7, "kind": "token", "text": "Which?\x1b[2J\nNow."}
    )
    assert "Which?[2J\r\nNow.\r\n" in process.until("Code: ")
    process.type("cana\x03")
    assert caller.answered() == {"cancel": True}
    caller.serve("disconnect", {"connection": "c1"})
    assert process.wait() == 130
    assert termios.tcgetattr(process.slave)[3] & termios.ECHO


def test_ctrl_d_cancels(service):
    process = service.command("connect", URL, terminal=True)
    caller = service.accept()
    caller.serve("connect", {"connection": "c1"})
    caller.say({"event": "prompt", "connection": "c1", "prompt": 7, "kind": "notice", "text": "Rules"})
    process.until("(yes/no)? ")
    process.type("\x04")
    assert caller.answered() == {"cancel": True}
    caller.serve("disconnect", {"connection": "c1"})
    process.until("The sign-in was cancelled.")
    assert process.wait() == 1


def test_a_question_that_time_has_passed_over(service):
    process = service.command("connect", URL, terminal=True)
    caller = service.accept()
    caller.serve("connect", {"connection": "c1"})
    caller.say({"event": "prompt", "connection": "c1", "prompt": 6, "kind": "token", "text": "first"})
    process.until("Code: ")
    caller.say({"event": "prompt", "connection": "c1", "prompt": 7, "kind": "token", "text": "second"})
    process.until("second\r\nCode: ")
    process.type("42\n")
    assert caller.answered() == {"fields": {"code": "42"}}
    caller.say({"event": "prompt", "connection": "c1", "prompt": 8, "kind": "token", "text": "third"})
    process.until("third\r\nCode: ")
    gone = {"code": "server-closed", "summary": "The gateway has gone.", "fix": "Wait.", "details": []}
    caller.say(state("failed", problem=gone))
    process.until("error: The gateway has gone. Wait.")
    assert process.wait() == 1


def test_a_closed_terminal_ends_it_and_waits_for_the_restoration(service):
    process = service.command("connect", URL, terminal=True)
    caller = service.accept()
    caller.connected()
    process.until("Ctrl-C disconnects.\r\n")
    process.hang_up()
    assert caller.request("disconnect") == {"connection": "c1"}
    caller.say(state("disconnecting"), state("disconnected"))
    assert process.wait() == 0


def test_a_terminal_closed_at_a_question(service):
    process = service.command("connect", URL, terminal=True)
    caller = service.accept()
    caller.serve("connect", {"connection": "c1"})
    caller.say({"event": "prompt", "connection": "c1", "prompt": 7, "kind": "token", "text": "first"})
    process.until("Code: ")
    process.hang_up()
    assert caller.answered() == {"cancel": True}
    caller.serve("disconnect", {"connection": "c1"})
    assert process.wait() in (1, 128 + signal.SIGHUP)  # the end of input may come before the signal
