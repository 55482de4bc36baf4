"""`lockgate client …`: the service that owns the connections of this machine."""

from __future__ import annotations

import os
from pathlib import Path

import click

from lockgate.cli.client_option import run_dir_option, state_dir_option
from lockgate.cli.output import Command, examples, json_option, print_json
from lockgate.client.local_client import LocalClient, call
from lockgate.model.problem import Problem, ProblemError

WORK = 60.0  # seconds: as long as the end of every connection takes


@click.command(
    cls=Command,
    epilog=examples("lockgate client run", "lockgate client run --state-dir D --run-dir R --log-level 5"),
)
@state_dir_option
@run_dir_option
@click.option(
    "--log-level",
    type=click.Choice(["3", "5"]),
    default="3",
    show_default=True,
    help="Of debuglog.log in the state directory: 3 normal, 5 detailed.",
)
def run(state_dir: str, run_dir: str, log_level: str) -> None:
    """Run the client service in the foreground.

    Ctrl-C and `lockgate client stop` end every connection and give the machine back. SIGTERM ends the service
    alone: its tunnels carry on, and the next service takes them up, so that an upgrade costs nobody a tunnel.

    It owns the connections, their network devices, routes, DNS and firewall rules, and does what
    `lockgate connect` and the other commands ask. Needs root, or a network namespace of your own. What an
    earlier run left behind, because it was killed, is undone first.
    """
    from lockgate.client.service.main import run as run_service

    run_service(Path(state_dir), Path(run_dir), int(log_level))


@click.command(cls=Command, epilog=examples("lockgate client reset", "lockgate client reset --json"))
@state_dir_option
@run_dir_option
@json_option
def reset(state_dir: str, run_dir: str, as_json: bool) -> None:
    """Undo everything a killed client left on this machine: devices, routes, DNS, firewall rules.

    For when the service does not run; a running one does this itself.
    """
    if os.geteuid() != 0:
        raise ProblemError(
            Problem(
                code="needs-root",
                summary="Only root may change routes, DNS and firewall rules.",
                fix="Run `lockgate client reset` as root.",
            )
        )
    if _is_running(run_dir):
        raise ProblemError(
            Problem(
                code="client-running",
                summary="The client service is running and owns what would be undone.",
                fix="`lockgate disconnect` ends a connection; `lockgate client stop` ends the service.",
            )
        )
    from lockgate.client.linux.reset import reset as undo
    from lockgate.client.service.edge_process import end_edge

    # First the one who still moves packets, then what they go by.
    undone = ["the packet process was ended"] if end_edge(Path(run_dir)) else []
    undone += [str(line) for line in undo(Path(state_dir))]
    if as_json:
        print_json({"undone": undone})
    else:
        click.echo("\n".join(undone) or "there was nothing to undo")


def _is_running(run_dir: str) -> bool:
    try:
        LocalClient(run_dir).close()
    except ProblemError as error:
        return error.problem.code != "client-not-running"
    return True


@click.command(cls=Command, epilog=examples("lockgate client sleep"))
@run_dir_option
@json_option
def sleep(run_dir: str, as_json: bool) -> None:
    """Tell the service that the machine is about to be suspended. For sleep hooks, as root."""
    _tell(run_dir, "sleep", as_json, "the connections are prepared")


@click.command(cls=Command, epilog=examples("lockgate client wake"))
@run_dir_option
@json_option
def wake(run_dir: str, as_json: bool) -> None:
    """Tell the service that the machine has woken up. For sleep hooks, as root."""
    _tell(run_dir, "wake", as_json, "the connections come back")


@click.command(cls=Command, epilog=examples("lockgate client annotate 'here the call broke off'"))
@click.argument("text", metavar="TEXT")
@run_dir_option
@json_option
def annotate(text: str, run_dir: str, as_json: bool) -> None:
    """Write TEXT into debuglog.log, to find the place again later."""
    _tell(run_dir, "annotate", as_json, "written", text=text)


@click.command(name="log-level", cls=Command, epilog=examples("lockgate client log-level 5"))
@click.argument("level", type=click.Choice(["3", "5"]))
@run_dir_option
@json_option
def log_level(level: str, run_dir: str, as_json: bool) -> None:
    """Make debuglog.log normal (3) or detailed (5), until the service ends. As root."""
    _tell(run_dir, "log-level", as_json, f"the debug log has level {level} now", level=int(level))


@click.command(cls=Command, epilog=examples("lockgate client stop", "lockgate client stop --keep"))
@click.option(
    "--keep", is_flag=True, help="Leave the tunnels up; the service finds them when it starts again."
)
@run_dir_option
@json_option
def stop(keep: bool, run_dir: str, as_json: bool) -> None:
    """End the service, and with it every connection."""
    text = "the service ends, its tunnels stay" if keep else "the service and its connections end"
    _tell(run_dir, "stop", as_json, text, keep=keep)


def _tell(run_dir: str, op: str, as_json: bool, done: str, **fields: object) -> None:
    answer = call(run_dir, op, timeout=WORK, **fields)
    if as_json:
        print_json(answer)
    else:
        click.echo(done)
