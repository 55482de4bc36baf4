"""Does part of a command's work as the owner of the data directory, while the rest stays root's."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from lockgate.model.problem import Problem, ProblemError


def as_account(uid: int, gid: int, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Runs `work` as that account and returns its result, which JSON can hold.

    Root's own place for that is a child process: nobody gives up an identity for a while. ProblemErrors
    of `work` arrive here. Anybody else is that account, or a ProblemError.
    """
    if os.geteuid() == uid:
        return work()
    if os.geteuid() != 0:
        raise ProblemError(
            Problem(
                code="data-directory-closed",
                summary=f"The data directory belongs to uid {uid}.",
                fix="Run the command as that account or as root.",
            )
        )
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(writer, uid, gid, work)
    os.close(writer)
    with open(reader, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    answer = json.loads(content) if content else {}
    if "problem" in answer:
        raise ProblemError(Problem.from_dict(answer["problem"]))
    if "result" not in answer:
        raise ProblemError(
            Problem("command-died", "The command ended before its work was done.", "Run it again.")
        )
    result: dict[str, Any] = answer["result"]
    return result


def _child(writer: int, uid: int, gid: int, work: Callable[[], dict[str, Any]]) -> None:
    status = 1
    try:
        try:
            # A user namespace without groups refuses this, and has none to drop.
            with contextlib.suppress(PermissionError):
                os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            answer: dict[str, Any] = {"result": work()}
        except ProblemError as error:
            answer = {"problem": error.problem.as_dict()}
        content = json.dumps(answer).encode()
        with open(writer, "wb") as pipe:
            pipe.write(content)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)  # nothing of the parent's is to be cleaned up here
