"""`lockgate config export|import|push`: documents, and other servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from lockgate.cli.config_output import reason_option, show_committed, show_draft
from lockgate.cli.gateway_option import dir_option
from lockgate.cli.output import Command, examples, json_option, print_json, show_problem
from lockgate.cli.rest import Rest
from lockgate.model.problem import Problem, ProblemError

MAX_DOCUMENT = 64 << 20  # bytes; the server takes no more

passphrase_option = click.option(
    "--passphrase-file",
    type=click.File("rb"),
    help='A file whose first line is the passphrase of the secrets; "-" is standard input.',
)


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate config export --dir /var/lib/lockgate -o gateway.json",
        "lockgate config export roles access_control --dir D > policy.json",
        "lockgate config export --dir D --passphrase-file passphrase -o with-secrets.json",
    ),
)
@click.argument("parts", nargs=-1, metavar="[PATH]...")
@dir_option
@click.option("-o", "--output", type=click.File("w", lazy=False), default="-", help="Write to this file.")
@click.option("--revision", type=click.IntRange(1), help="Of an older revision.")
@passphrase_option
@json_option
def export(
    parts: tuple[str, ...],
    path: Path,
    output: Any,
    revision: int | None,
    passphrase_file: Any,
    as_json: bool,
) -> None:
    """Write the configuration, or the parts of it at each PATH, as a document that import and push take.

    Without a passphrase secrets are left out. The document is JSON with or without --json.
    """
    body = {"parts": list(parts) or None, "revision": revision, "passphrase": _passphrase(passphrase_file)}
    document = Rest(path).post("/config/export", body)
    output.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


@click.command(
    "import",
    cls=Command,
    epilog=examples(
        "lockgate config import gateway.json --dir /var/lib/lockgate",
        "lockgate config import policy.json --merge --dir D --commit -m 'rules of the other site'",
        "lockgate config import D/config.toml --dir D --commit",
    ),
)
@click.argument("file", type=click.File("rb"))
@dir_option
@click.option("--merge", is_flag=True, help="Add and replace objects by name, remove nothing.")
@click.option("--commit", is_flag=True, help="Commit at once, as one revision.")
@passphrase_option
@reason_option
@json_option
def import_(
    file: Any, path: Path, merge: bool, commit: bool, passphrase_file: Any, reason: str, as_json: bool
) -> None:
    """Take over FILE: a document of export, or a config.toml.

    Without --merge what the document holds takes the place of what is there. The result is a draft, which is
    judged and shown as a diff; --commit commits it when nothing is wrong.
    """
    name = getattr(file, "name", "-")
    content = _read(file)
    document = _from_toml(content, name) if str(name).endswith(".toml") else _from_json(content, name)
    body = {
        "document": document,
        "mode": "merge" if merge else "replace",
        "passphrase": _passphrase(passphrase_file),
        "commit": commit,
        "reason": reason,
    }
    rest = Rest(path)
    made = rest.post("/config/import", body)
    if made["revision"] is not None:
        if as_json:
            print_json(made["revision"])
        else:
            show_committed(made["revision"])
        return
    show_draft(rest, made["draft"], as_json)


@click.command(
    cls=Command,
    epilog=examples(
        "lockgate config push Berlin Paris --dir D -m 'new rules'",
        "lockgate config push Berlin --path roles --path access_control --dir D",
    ),
)
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@dir_option
@click.option(
    "--path", "parts", multiple=True, metavar="PATH", help="Push this part; may be given several times."
)
@reason_option
@json_option
@click.pass_context
def push(
    ctx: click.Context,
    targets: tuple[str, ...],
    path: Path,
    parts: tuple[str, ...],
    reason: str,
    as_json: bool,
) -> None:
    """Send the current revision to the push targets named.

    Without --path that is everything but what belongs to one server: addresses, networks, certificates,
    administrators, push targets. Each server judges it, and takes all of it or nothing. Exit status 1 when one
    did not take it.
    """
    body = {"targets": list(targets), "parts": list(parts) or None, "reason": reason}
    results = Rest(path).post("/config/push", body)["results"]
    if as_json:
        print_json(results)
    else:
        for each in results:
            _show_pushed(each)
    ctx.exit(0 if all(each["ok"] for each in results) else 1)


def _show_pushed(result: dict[str, Any]) -> None:
    problem = result["problem"]
    if problem is None:
        number = result["revision"]
        click.echo(f"{result['target']}: {f'revision {number} there' if number else 'has it already'}")
        return
    show_problem(Problem.from_dict(problem), as_json=False)


def _read(file: Any) -> bytes:
    content: bytes = file.read(MAX_DOCUMENT + 1)
    if len(content) > MAX_DOCUMENT:
        raise ProblemError(
            Problem(
                "document-too-large",
                f"{getattr(file, 'name', 'The file')} has more than {MAX_DOCUMENT} bytes.",
                "Export and import it in parts.",
            )
        )
    return content


def _from_json(content: bytes, name: str) -> Any:
    from lockgate.server.config.bounds import read_json

    return read_json(content, f"document {name}")


def _from_toml(content: bytes, name: str) -> dict[str, Any]:
    """A config.toml in the form of an export: what the file speaks of replaces what is there."""
    from lockgate.server.config.current import digest
    from lockgate.server.config.seed.load import parse_configuration
    from lockgate.server.config.seed.takeover import parts_of

    seed = parse_configuration(content, Path(name))
    return {"lockgate": 1, "parts": parts_of(seed), "config_toml": digest(content)}


def _passphrase(file: Any) -> str | None:
    if file is None:
        return None
    line = file.readline(1025)
    try:
        text = line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        text = ""
    if not text or len(line) > 1024:
        raise ProblemError(
            Problem(
                "no-passphrase", "The file has no passphrase in its first line.", "Write it there, in UTF-8."
            )
        )
    return str(text)
