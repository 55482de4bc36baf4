"""Export, import and push of configurations."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

from pydantic import Field

from lockgate.model.problem import ProblemError
from lockgate.protocol.secret import Secret
from lockgate.server.config import push as pushing
from lockgate.server.config.registry import AREAS, area_of
from lockgate.server.config.service import ConfigService
from lockgate.server.config.transfer import Mode
from lockgate.server.web.api.configuration import Committed, Number, committed
from lockgate.server.web.api.drafts import DraftTold, told
from lockgate.server.web.api.models import Given, Password, Reason, Told
from lockgate.server.web.api.route import Of, Who, make_router, rights, takes
from lockgate.server.web.body import DOCUMENT_LIMIT
from lockgate.server.web.principal import Principal, needs

router = make_router("import and export")

Parts = Annotated[list[Annotated[str, Field(max_length=1000)]], Field(min_length=1, max_length=1000)]


class Export(Given):
    """parts: paths; without them the whole tree. passphrase: encrypts the secrets, which else are left out."""

    parts: Parts | None = None
    revision: Number | None = None
    passphrase: Password | None = None


class Import(Given):
    """A document of an export. commit: makes it the configuration in force at once; without, a draft."""

    document: dict[str, Any]
    mode: Mode = "replace"
    passphrase: Password | None = None
    commit: bool = False
    reason: Reason = ""


class Imported(Told):
    """draft: where nothing was committed. revision: where it was."""

    draft: DraftTold | None = None
    revision: Committed | None = None


class Push(Given):
    """targets: names of push targets. parts: paths; without them everything that is not one server's own."""

    targets: Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=200)]
    parts: Parts | None = None
    reason: Reason = ""


class PushedTold(Told):
    """What became of the push to one server. revision: that it made of it."""

    target: str
    ok: bool
    revision: int | None
    problem: dict[str, Any] | None


class PushResult(Told):
    results: list[PushedTold]


def _areas(parts: list[str] | None) -> set[str]:
    return set(AREAS.values()) if parts is None else {area_of(part.strip("/")) for part in parts}


def _secret(text: Password | None) -> Secret | None:
    return None if text is None else Secret.of_text(text.get_secret_value())


@router.post("/config/export", dependencies=[rights(needs("maintenance"))])
async def export(who: Who, services: Of, given: Export) -> dict[str, Any]:
    """A document of the configuration. With secrets it needs the right to write what it holds."""
    who.require_all(_areas(given.parts), "read" if given.passphrase is None else "write")
    if given.passphrase is not None:
        who.require("maintenance", "write")
    document = await services.config.export(given.parts, _secret(given.passphrase), given.revision)
    await services.audit.record(
        "config-exported",
        ok=True,
        user=who.actor,
        source=who.source,
        text=("with secrets: " if given.passphrase is not None else "")
        + (", ".join(given.parts) if given.parts else "everything"),
        log="admin",
        revision=given.revision or services.config.number,
    )
    return document


@router.post("/config/import", dependencies=[rights(needs("maintenance", "write"))])
@takes(DOCUMENT_LIMIT)
async def import_(who: Who, services: Of, given: Import) -> Imported:
    """Takes a document over, as a draft or at once."""
    document = given.document
    if who.kind != "local":
        # Which file of this machine was taken over is for commands on it to say.
        document = {key: value for key, value in document.items() if key != "config_toml"}
    draft = await services.config.import_(
        document, given.mode, who.actor, _secret(given.passphrase), source=who.source
    )
    if not given.commit:
        return Imported(draft=told(draft, who))
    try:
        revision = await services.config.commit(
            draft.id, draft.version, who.actor, given.reason, source=who.source, permit=who.require_all
        )
    except BaseException:
        # Nothing was asked for but the commit.
        await _forget(services.config, draft.id, who)
        raise
    return Imported(revision=committed(revision, who))


async def _forget(config: ConfigService, draft: str, who: Principal) -> None:
    with contextlib.suppress(ProblemError):
        await config.discard(draft, author=who.actor, source=who.source)


@router.post("/config/push", dependencies=[rights(needs("maintenance", "write"))])
async def push(who: Who, services: Of, given: Push) -> PushResult:
    """Sends the configuration to other servers."""
    who.require_all(_areas(given.parts), "read")
    targets = pushing.destinations(services.config.tree, services.vault, given.targets)
    results = await pushing.push(services.config, targets, parts=given.parts, reason=given.reason)
    for each in results:
        await services.audit.record(
            "config-pushed",
            ok=each.problem is None,
            reason="" if each.problem is None else each.problem.code,
            user=who.actor,
            source=who.source,
            text=each.name,
            log="admin",
            revision=services.config.number,
        )
    return PushResult(results=[PushedTold(**each.as_dict()) for each in results])
