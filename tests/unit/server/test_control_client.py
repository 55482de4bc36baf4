"""Asking a running server, or one that is not."""

import json
import socket
import threading

import pytest

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.control_client import call
from lockgate.server.datadir import DataDirectory


@pytest.fixture
def directory(tmp_path):
    # Longer than a socket's path may be.
    path = tmp_path / ("deep" * 30)
    (path / "run").mkdir(parents=True)
    return DataDirectory(path)


def serve(directory, answer):
    """A server for one call; `answer` makes bytes of the request's line, None closes at once."""
    import os

    listener = socket.socket(socket.AF_UNIX)
    folder = os.open(directory.run, os.O_PATH)
    listener.bind(f"/proc/self/fd/{folder}/control.sock")
    os.close(folder)
    listener.listen()
    asked = []

    def work():
        with listener:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as stream:
                asked.append(json.loads(stream.readline()))
                connection.sendall(answer)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, asked


def test_question_and_answer(directory):
    thread, asked = serve(directory, json.dumps({"ok": True, "text": "x" * 200_000}).encode() + b"\n")
    assert call(directory, {"op": "status"})["text"] == "x" * 200_000
    thread.join()
    assert asked == [{"op": "status"}]


def test_the_servers_problem_is_ours(directory):
    problem = Problem("no-such-session", "There is no session 7.", "List them.", ("one",))
    thread, _ = serve(directory, json.dumps({"error": problem.as_dict()}).encode() + b"\n")
    with pytest.raises(ProblemError) as caught:
        call(directory, {"op": "disconnect"})
    thread.join()
    assert caught.value.problem == problem


@pytest.mark.parametrize("answer", [b"", b"{", b"nonsense\n", b"[]\n", b"\xff\n"])
def test_a_strange_answer_is_a_problem(directory, answer):
    thread, _ = serve(directory, answer)
    with pytest.raises(ProblemError) as caught:
        call(directory, {})
    thread.join()
    assert caught.value.problem.code == "server-silent"


def test_no_answer_is_a_problem(directory):
    listener = socket.socket(socket.AF_UNIX)
    with listener:
        import os

        folder = os.open(directory.run, os.O_PATH)
        listener.bind(f"/proc/self/fd/{folder}/control.sock")
        os.close(folder)
        listener.listen()
        with pytest.raises(ProblemError) as caught:
            call(directory, {}, timeout=0.05)
    assert caught.value.problem.code == "server-silent"
    # The socket's file is left over, as after a crash.
    with pytest.raises(ProblemError) as caught:
        call(directory, {})
    assert caught.value.problem.code == "server-not-running"


def test_no_server_is_a_problem(directory):
    with pytest.raises(ProblemError) as caught:
        call(directory, {})
    assert caught.value.problem.code == "server-not-running"
