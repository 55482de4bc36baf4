"""`python -m tests.lab.enter -- COMMAND…`: run a command as root of namespaces of its own.

Root makes network, mount and process namespaces; anybody else makes a user namespace around them, in which
the caller is root. The command's processes cannot outlive this one: when it ends, whatever the reason, the
kernel kills everything in the process namespace, and the networks and mounts vanish with the last process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.lab.place import LAB_DIR

_NAMESPACES = ["--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
_AS_ROOT_OF_OUR_OWN = ["--user", "--map-root-user"]
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


_NO_TUN = """\
lab: /dev/net/tun is missing or closed to this user: without it there are no tunnels. As root:
    modprobe tun; mkdir -p /dev/net; [ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200; chmod 666 /dev/net/tun"""


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--inside"]:
        return _inside(arguments[1:])
    if arguments[:1] == ["--"]:
        arguments = arguments[1:]
    if not arguments:
        print("usage: python -m tests.lab.enter -- COMMAND [ARGUMENT…]", file=sys.stderr)
        return 2
    if os.environ.get(LAB_DIR):
        os.execvp(arguments[0], arguments)
    unshare = ["unshare", *([] if os.geteuid() == 0 else _AS_ROOT_OF_OUR_OWN), *_NAMESPACES]
    refusal = _refusal(unshare)
    if refusal:
        print(refusal, file=sys.stderr)
        return 1
    # The mount point only; what the lab writes goes to the tmpfs over it and is never seen outside.
    directory = tempfile.mkdtemp(prefix="lockgate-lab-")
    try:
        return _run([*unshare, sys.executable, "-m", "tests.lab.enter", "--inside", directory, *arguments])
    finally:
        os.rmdir(directory)


def _refusal(unshare: list[str]) -> str | None:
    """Why this machine gives us no namespaces and what to do about it; None when it does."""
    if shutil.which("unshare") is None:
        return "lab: the command 'unshare' is missing: install the package util-linux."
    probe = subprocess.run([*unshare, "true"], capture_output=True, text=True, check=False)
    if probe.returncode == 0:
        return None if os.access("/dev/net/tun", os.R_OK | os.W_OK) else _NO_TUN
    reason = probe.stderr.strip() or f"exit {probe.returncode}"
    if os.geteuid() == 0:
        return (
            f"lab: the kernel refuses network namespaces to root here ({reason}).\n"
            "In a container, start it with --privileged, or with --cap-add SYS_ADMIN --cap-add NET_ADMIN, no\n"
            "seccomp or AppArmor profile that forbids unshare and mount, and --device /dev/net/tun."
        )
    switches = [
        f"    sudo sysctl -w {name}={wanted}"
        for name, wanted in [
            ("kernel.unprivileged_userns_clone", "1"),
            ("kernel.apparmor_restrict_unprivileged_userns", "0"),
            ("user.max_user_namespaces", "10000"),
        ]
        if _sysctl_forbids(name, wanted)
    ]
    if switches:
        lines = [f"lab: user namespaces are switched off for ordinary users here ({reason}).", "Allow them:"]
        return "\n".join([*lines, *switches, "or run the same command as root."])
    return (
        f"lab: the kernel refuses namespaces to an ordinary user here ({reason}).\n"
        "Run the same command as root (in a container: as its root, with --privileged)."
    )


def _sysctl_forbids(name: str, wanted: str) -> bool:
    path = Path("/proc/sys") / name.replace(".", "/")
    try:
        value = path.read_text().strip()
    except OSError:
        return False
    return value == "0" if wanted != "0" else value != "0"


def _run(command: list[str]) -> int:
    """Run `unshare …` in the foreground and give its exit status.

    unshare itself blocks SIGTERM while it waits, so ending the lab means killing unshare: its child, the
    first process of the process namespace, then gets SIGKILL from the kernel and takes everything along.
    """

    def die_with_parent() -> None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    process = subprocess.Popen(command, preexec_fn=die_with_parent)

    def end(_number: int, _frame: object) -> None:
        process.kill()

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    # Ctrl-C reaches the whole foreground process group: the command inside ends in its own way, we wait for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status = process.wait()
    return 128 - status if status < 0 else status


def _inside(arguments: list[str]) -> int:
    """First process of the process namespace: prepares it, runs the command, collects orphans."""
    directory, command = arguments[0], arguments[1:]
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # Mode 755: a gateway that gives up root must still reach its directory in here.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "lockgate-lab", directory], check=True)
    os.environ[LAB_DIR] = directory
    os.environ["TMPDIR"] = directory
    # The programs of administrators are not on everybody's PATH.
    os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    child = os.posix_spawnp(command[0], command, os.environ, setsigdef=[signal.SIGINT, signal.SIGHUP])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        with contextlib.suppress(InterruptedError):
            pid, status = os.wait()
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
