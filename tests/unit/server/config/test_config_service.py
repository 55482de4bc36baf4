"""Drafts, commits and revisions over a real store: two administrators, other processes, secrets, documents."""

import asyncio
import contextlib
import json
from datetime import UTC, datetime

import pytest
import structlog

from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol.secret import Secret
from lockgate.server import pki, trace_export
from lockgate.server.audit import Audit
from lockgate.server.config import edits, transfer
from lockgate.server.config.changes import KEPT
from lockgate.server.config.paths import get, parse_path
from lockgate.server.config.revision import first_revision
from lockgate.server.config.service import ConfigService
from lockgate.server.config.tree import Configuration
from tests.unit.server.config.support import TOKEN, default_tree, small_tree
from tests.unit.server.support import Clock, new_store, run, same_store, user

SET, INSERT, REMOVE, RENAME = edits.SetValue, edits.Insert, edits.Remove, edits.Rename
PASSPHRASE = Secret.of_text("a long passphrase")


@contextlib.asynccontextmanager
async def services(folder, count=1):
    """So many processes over one store; the first revision is the default tree."""
    async with contextlib.AsyncExitStack() as stack:
        opened = []
        for number in range(count):
            store = await stack.enter_async_context((same_store if number else new_store)(folder))
            if not number:
                assert await store.revisions.add(first_revision(default_tree(), "setup", "first", 1.0), 0)
            vault = open_vault_of(folder)
            service = ConfigService(store, vault, Audit(store.audit, Clock()), Clock())
            await service.load()
            opened.append((service, store))
        yield opened


def open_vault_of(folder):
    from lockgate.server.datadir import DataDirectory
    from lockgate.server.vault import open_vault

    return open_vault(DataDirectory(folder))


def code_of(caught):
    return caught.value.problem.code


async def refused(work):
    with pytest.raises(ProblemError) as caught:
        await work
    return caught.value.problem


async def change(service, *listed, author="ann", reason="because"):
    draft = await service.create_draft(author)
    draft = await service.edit(draft.id, draft.version, listed)
    return await service.commit(draft.id, draft.version, author, reason)


def test_a_draft_becomes_a_revision(tmp_path):
    async def work():
        async with services(tmp_path) as [(service, store)]:
            heard = []

            async def follow(old, new):
                heard.append((old.network.mtu, new.tree.network.mtu, service.number))

            service.subscribe(follow)
            draft = await service.create_draft("ann", source="192.0.2.7")
            draft = await service.edit(draft.id, 1, [SET("network/mtu", 1300), SET("log/keep_days", 30)])
            assert (draft.version, draft.base, service.tree.network.mtu) == (2, 1, 1400)
            assert [c.path for c in await service.draft_changes(draft.id)] == ["network/mtu", "log/keep_days"]
            revision = await service.commit(draft.id, 2, "ann", "smaller\npackets", source="192.0.2.7")
            assert (revision.number, revision.author, revision.reason) == (2, "ann", "smaller\\x0apackets")
            assert [(w.field, w.wrong) for w in revision.warnings] == [
                ("network/mtu", "takes effect at the next start of the server")
            ]
            assert heard == [(1400, 1300, 2)]
            assert service.tree.network.mtu == 1300
            assert await service.drafts() == []
            assert [info.number for info in await service.log()] == [2, 1]
            assert [c.path for c in await service.compare(1, 2)] == ["network/mtu", "log/keep_days"]
            last = (await store.audit.newest(5))[-1]
            assert (last.event, last.log, last.user, last.source, last.revision) == (
                "config-committed", "admin", "ann", "192.0.2.7", 2,
            )  # fmt: skip
            assert last.text.startswith("2 changes: network/mtu, log/keep_days; smaller")

    run(work())


def test_nothing_changes_when_anything_is_wrong(tmp_path):
    async def work():
        async with services(tmp_path) as [(service, store)]:
            before, entries = service.current, len(await store.audit.newest(100))
            draft = await service.create_draft("ann")
            wrong = await service.edit(draft.id, 1, [SET("network/mtu", 100), SET("roles/Users/name", 7)])
            problem = await refused(service.commit(draft.id, wrong.version, "ann", ""))
            assert problem.code == "config-invalid"
            assert any(d.startswith("network/mtu: 100 is not allowed") for d in problem.details)
            problem = await refused(service.apply("ann", "", [REMOVE("roles/Users")]))
            assert problem.code == "config-invalid"
            assert any("realms/Users/rules/Everybody/roles" in detail for detail in problem.details)
            assert (await refused(service.apply("ann", "", []))).code == "nothing-changed"
            assert (
                await refused(service.apply("ann", "", [SET("network/mtu", 1400)]))
            ).code == "nothing-changed"
            assert (
                await refused(service.edit(draft.id, wrong.version, [SET("nowhere", 1)]))
            ).code == "no-such-setting"
            assert (await refused(service.commit("x", 1, "ann", ""))).code == "no-such-draft"
            assert (await refused(service.rollback(9, "ann", ""))).code == "no-such-revision"
            assert (await refused(service.rollback(1 << 80, "ann", ""))).code == "no-such-revision"
            assert service.current is before
            assert await store.revisions.current_number() == 1
            assert (await service.draft(draft.id)).version == wrong.version
            assert len(await store.audit.newest(100)) == entries + 1  # the draft

    run(work())


def test_of_two_administrators_the_later_one_sees_the_conflict(tmp_path):
    async def work():
        # Two processes, as two nodes or a server and a command.
        async with services(tmp_path, 2) as [(one, _), (other, _)]:
            hers = await one.create_draft("ann")
            hers = await one.edit(hers.id, 1, [SET("network/mtu", 1300), SET("esp/rekey_seconds", 600)])
            his = await other.create_draft("bob")
            his = await other.edit(his.id, 1, [SET("network/mtu", 1350), SET("log/keep_days", 30)])
            await one.commit(hers.id, hers.version, "ann", "")
            problem = await refused(other.commit(his.id, his.version, "bob", ""))
            assert problem.code == "conflict"
            assert "ann committed revision 2" in problem.summary
            assert problem.details == ("network/mtu: changed by both sides",)
            [conflict] = await other.conflicts(his.id)
            assert (conflict.mine.after, conflict.theirs.after) == (1350, 1300)
            assert (await refused(other.rebase(his.id, his.version))).code == "conflict"
            mine = await other.rebase(his.id, his.version, "mine")
            assert [c.path for c in await other.draft_changes(mine.id)] == ["network/mtu", "log/keep_days"]
            revision = await other.commit(mine.id, mine.version, "bob", "")
            tree = revision.tree
            assert (tree.network.mtu, tree.esp.rekey_seconds, tree.log.keep_days) == (1350, 600, 30)
            await one.refresh()
            assert one.tree == tree
            assert one.number == 3

    run(work())


def test_changes_elsewhere_are_taken_over_without_a_question(tmp_path):
    async def work():
        async with services(tmp_path) as [(service, _)]:
            his = await service.create_draft("bob")
            his = await service.edit(his.id, 1, [SET("log/keep_days", 30)])
            await change(service, SET("esp/rekey_seconds", 600))
            assert (await refused(service.commit(his.id, his.version, "bob", ""))).code == "conflict"
            his = await service.rebase(his.id, his.version)
            tree = (await service.commit(his.id, his.version, "bob", "")).tree
            assert (tree.esp.rekey_seconds, tree.log.keep_days) == (600, 30)
            # In one step: whoever names the revision that they looked at hears of a newer one.
            stale = service.apply("bob", "", [SET("log/keep_days", 31)], base=2)
            assert (await refused(stale)).code == "conflict"
            await service.apply("bob", "", [SET("log/keep_days", 31)], base=3)

    run(work())


def test_two_tabs_do_not_mix_their_edits(tmp_path):
    async def work():
        async with services(tmp_path, 2) as [(one, _), (other, _)]:
            draft = await one.create_draft("ann")
            tabs = [
                one.edit(draft.id, 1, [SET("log/keep_days", 1)]),
                other.edit(draft.id, 1, [SET("log/keep_days", 2)]),
            ]
            results = await asyncio.gather(*tabs, return_exceptions=True)
            [problem] = [r for r in results if isinstance(r, ProblemError)]
            assert problem.problem.code == "draft-changed"
            assert (await one.draft(draft.id)).version == 2
            assert (await refused(one.commit(draft.id, 1, "ann", ""))).code == "draft-changed"
            # Two commits of the same draft: one of them.
            commits = [s.commit(draft.id, 2, "ann", "") for s in (one, other)]
            results = await asyncio.gather(*commits, return_exceptions=True)
            [problem] = [r for r in results if isinstance(r, ProblemError)]
            assert problem.problem.code in ("conflict", "no-such-draft", "draft-changed")
            assert await one._store.revisions.current_number() == 2

    run(work())


def test_another_processes_revision_is_picked_up(tmp_path):
    async def work():
        async with services(tmp_path, 2) as [(one, _), (other, _)]:
            heard = []

            async def follow(old, new):
                heard.append(new.number)
                raise RuntimeError("a follower's mistake is not the commit's")

            other.subscribe(follow)
            await change(one, SET("log/keep_days", 1))
            await change(one, SET("log/keep_days", 2))
            await other.refresh()
            await other.refresh()
            assert heard == [3]
            assert other.tree == one.tree

    run(work())


def test_a_commit_that_nobody_waits_for_any_more_is_followed_all_the_same(tmp_path):
    async def work():
        async with services(tmp_path) as [(service, _)]:
            heard, blocked, begun = [], [asyncio.Event()], asyncio.Event()

            async def slow(old, new):
                begun.set()
                if blocked:
                    await blocked.pop().wait()

            async def follow(old, new):
                heard.append((old.log.keep_days, new.tree.log.keep_days))

            service.subscribe(slow)
            service.subscribe(follow)
            before = service.tree.log.keep_days
            committing = asyncio.create_task(change(service, SET("log/keep_days", 1)))
            await begun.wait()
            committing.cancel()
            await asyncio.wait([committing])
            assert heard == []
            await service.refresh()
            assert heard == [(before, 1)]
            assert service.tree.log.keep_days == 1

    run(work())


def test_back_to_an_earlier_revision(tmp_path):
    async def work():
        async with services(tmp_path) as [(service, _)]:
            first = service.tree
            await change(service, SET("connection_sets/Default/settings/always_on", True))
            assert service.tree.connection_sets[0].version == 2
            back = await service.rollback(1, "ann", "")
            assert (back.number, back.base, back.reason) == (3, 1, "back to revision 1")
            # Clients take a higher version only: what comes back is newer than what it replaces.
            assert back.tree.connection_sets[0].version == 3
            reset = {"connection_sets": (back.tree.connection_sets[0].model_copy(update={"version": 1}),)}
            assert back.tree.model_copy(update=reset) == first
            assert (await refused(service.rollback(3, "ann", ""))).code == "nothing-changed"
            # A set that was away comes back newer than it was.
            gone = await change(service, REMOVE("component_sets/Default"), REMOVE("connection_sets/Default"))
            assert gone.tree.connection_sets == ()
            assert (await service.rollback(2, "ann", "")).tree.connection_sets[0].version == 5

    run(work())


def test_who_may_not_change_an_area_changes_nothing(tmp_path):
    async def work():
        async with services(tmp_path) as [(service, store)]:
            asked = []

            def permit(areas):
                asked.append(set(areas))
                raise ProblemError(Problem("forbidden", "No.", "Ask somebody."))

            listed = [SET("log/keep_days", 1), RENAME("roles/Users", "Staff")]
            problem = await refused(service.apply("ann", "", listed, permit=permit))
            assert problem.code == "forbidden"
            assert asked == [{"logs", "roles", "authentication"}]
            assert await store.revisions.current_number() == 1
            await refused(service.rollback(1, "ann", "", permit=permit))

    run(work())


TARGET = {"url": "https://other.example.org:8443", "token": TOKEN}


@pytest.mark.parametrize("target", ["push_targets/other", "user_records/peers/other"])
def test_a_token_that_was_away_comes_back_for_its_own_address_alone(tmp_path, target):
    async def work():
        async with services(tmp_path) as [(service, _)]:
            await change(service, INSERT(target, TARGET))
            draft = await service.create_draft("eve")
            moved = {**TARGET, "token": KEPT, "url": "https://evil.example.org"}
            draft = await service.edit(draft.id, 1, [SET(target, moved)])
            await change(service, REMOVE(target))
            draft = await service.rebase(draft.id, draft.version, "mine")
            problem = await refused(service.commit(draft.id, draft.version, "eve", ""))
            assert problem.details[0].startswith(f"{target}/token: the token was entered for another address")
            again = await service.edit(
                draft.id, draft.version, [SET(target, {**moved, "token": "entered anew"})]
            )
            await service.commit(again.id, again.version, "ann", "")
            # With its own address it may come back.
            await service.rollback(2, "ann", "")
            assert get(service.data, parse_path(f"{target}/url")) == TARGET["url"]

    run(work())


def test_a_token_of_somebodys_draft_stays_with_its_address(tmp_path):
    """Whoever may edit the draft of another administrator does not get the tokens that were entered there."""

    async def work():
        async with services(tmp_path) as [(service, _)]:
            draft = await service.create_draft("ann")
            draft = await service.edit(draft.id, 1, [INSERT("push_targets/other", TARGET)])
            for edit in (
                [SET("push_targets/other/url", "https://evil.example.org")],
                [RENAME("push_targets/other", "mine"), SET("push_targets/mine/ca", "PEM")],
                [SET("push_targets/other", {**TARGET, "token": KEPT, "url": "https://evil.example.org"})],
            ):
                problem = await refused(service.edit(draft.id, draft.version, edit))
                assert problem.code == "token-of-another-address"
            stolen = {**draft.data, "push_targets": [{**draft.data["push_targets"][0], "url": "https://e"}]}
            problem = await refused(service.replace(draft.id, draft.version, stolen))
            assert problem.code == "token-of-another-address"
            moved = [
                SET("push_targets/other/url", "https://new.example.org"),
                SET("push_targets/other/token", TOKEN),
            ]
            draft = await service.edit(draft.id, draft.version, moved)
            await service.commit(draft.id, draft.version, "ann", "")
            assert service.tree.push_targets[0].url == "https://new.example.org"

    run(work())


def test_a_token_may_be_entered_again_for_a_new_address(tmp_path):
    """The same one: a server that has moved, or got another CA, keeps its tokens."""

    async def work():
        async with services(tmp_path) as [(service, _)]:
            await change(service, INSERT("push_targets/other", TARGET))
            sealed = service.tree.push_targets[0].token
            await change(service, SET("push_targets/other", {**TARGET, "description": "moves"}))
            assert service.tree.push_targets[0].token == sealed  # no change
            moved = {**TARGET, "url": "https://new.example.org"}
            ca = pki.create("new.example.org", [], datetime.now(UTC)).ca.decode()
            for target in (moved, {**moved, "ca": ca}):
                # Also a first CA: whoever chooses it chooses who gets the token.
                problem = await refused(change(service, SET("push_targets/other", {**target, "token": KEPT})))
                assert "the token was entered for another address or CA" in problem.details[0]
                await change(service, SET("push_targets/other", target))
                entered = service.tree.push_targets[0].token
                assert entered != sealed
                assert open_vault_of(tmp_path).open(entered) == TOKEN
                sealed = entered

    run(work())


COLLECTOR = {"enabled": True, "url": "https://collector.example.org/v1/traces", "headers": "a=canary"}


def test_headers_of_a_collector_go_nowhere_else(tmp_path):
    async def work():
        async with services(tmp_path) as [(service, _)]:
            await change(service, SET("traces", COLLECTOR))
            sealed = service.tree.traces.headers
            assert open_vault_of(tmp_path).open(sealed) == "a=canary"
            told = "traces/headers: the headers were entered for another address or CA"
            elsewhere = SET("traces/url", "https://evil.example.org/v1/traces")
            assert (await refused(change(service, elsewhere))).details[0].startswith(told)
            # Neither by taking them away first, nor by bringing an older revision's back.
            await change(service, SET("traces", {}))
            back = SET("traces", {**COLLECTOR, "url": "https://evil.example.org/", "headers": sealed})
            assert (await refused(change(service, back))).details[0].startswith(told)
            wrong = await refused(change(service, SET("traces", {**COLLECTOR, "headers": "canary"})))
            assert wrong.details[0].startswith("traces/headers: header 1 is none")
            assert "canary" not in str(wrong.as_dict())

    run(work())


def test_without_its_packages_a_server_exports_no_traces(tmp_path, monkeypatch):
    async def work():
        async with services(tmp_path) as [(service, store)]:
            await change(service, SET("traces", COLLECTOR))
            monkeypatch.setattr(trace_export, "PACKAGES", ("lockgate.there_is_no_such_package",))
            problem = await refused(change(service, SET("traces/share", 7)))
            assert problem.details[0].startswith("traces/enabled: OpenTelemetry's packages are not installed")
            assert "lockgate[server,traces]" in problem.details[0]
            # What was committed before keeps no server from starting.
            await ConfigService(store, open_vault_of(tmp_path), Audit(store.audit, Clock())).load()
            await change(service, SET("traces/enabled", False))

    run(work())


def test_secrets_go_in_and_never_out(tmp_path, capfd, monkeypatch):
    # A logger of its own: that of the module may be bound to what another test captured.
    printing = structlog.wrap_logger(
        structlog.PrintLogger(), processors=[structlog.processors.JSONRenderer()]
    )
    monkeypatch.setattr("lockgate.server.config.service.log", printing)

    async def work():
        async with services(tmp_path) as [(service, store)]:
            draft = await service.create_draft("ann")
            draft = await service.edit(draft.id, 1, [INSERT("push_targets/other", TARGET)])
            shown = [await service.draft_changes(draft.id), (await service.validate(draft.id)).findings]
            await service.commit(draft.id, draft.version, "ann", "a target")
            sealed = service.tree.push_targets[0].token
            # A value that says "keep" keeps it, whatever else changes.
            await change(service, SET("push_targets/other", {**TARGET, "token": KEPT, "description": "x"}))
            assert service.tree.push_targets[0].token == sealed
            # ... but not for another address: nobody gets a stored secret by redirecting it.
            moved = {**TARGET, "token": KEPT, "url": "https://evil.example.org"}
            problem = await refused(change(service, SET("push_targets/other", moved)))
            assert problem.details[0].startswith(
                "push_targets/other/token: the token was entered for another address"
            )
            forged = await refused(change(service, SET("push_targets/other/token", "sealed:v1:AAAA")))
            assert "cannot be opened" in forged.details[0]
            documents = [
                await service.export(),
                await service.export(["push_targets/other"]),
                await service.export(passphrase=PASSPHRASE),
            ]
            shown += documents
            shown += [
                await service.compare(1, 3),
                await store.audit.newest(100),
                service.current.warnings,
                problem,
            ]
            shown += [record.tree for record in [await store.revisions.current()]]
            for each in shown:
                assert TOKEN not in str(each)
            for each in shown[:-1]:
                assert "sealed:" not in str(each)
            assert documents[0]["tree"]["push_targets"][0]["token"] == KEPT
            return documents

    documents = run(work())
    logged = capfd.readouterr()
    assert "config-committed" in logged.out + logged.err
    assert TOKEN not in logged.out + logged.err
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes()
    for document in documents:
        assert TOKEN not in json.dumps(document)


def test_a_document_goes_to_another_server(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    async def work():
        async with services(tmp_path / "a") as [(one, store)], services(tmp_path / "b") as [(other, store_b)]:
            page = b"the archive of a sign-in page"
            digest = await store.blobs.put(page)
            custom = {"kind": "custom", "templates": digest}
            await change(
                one,
                INSERT("push_targets/other", TARGET),
                SET("sign_in_pages/Custom", custom),
                INSERT("roles/Staff", {}),
            )
            document = json.loads(json.dumps(await one.export(passphrase=PASSPHRASE)))
            assert (await refused(other.import_(document, "replace", "ann"))).code == "passphrase-needed"
            wrong = Secret.of_text("another passphrase")
            assert (
                await refused(other.import_(document, "replace", "ann", wrong))
            ).code == "passphrase-wrong"
            draft = await other.import_(document, "replace", "ann", PASSPHRASE)
            assert other.number == 1
            revision = await other.commit(draft.id, draft.version, "ann", "from the other server")
            assert revision.tree.cluster.server_id == one.tree.cluster.server_id
            assert revision.tree.push_targets[0].token != one.tree.push_targets[0].token
            assert other._sealing.open(revision.tree.push_targets[0].token) == TOKEN
            assert await store_b.blobs.get(digest) == page
            secrets_aside = {"push_targets": ()}
            assert revision.tree.model_copy(update=secrets_aside) == one.tree.model_copy(update=secrets_aside)
            # Without the passphrase secrets are left out; on the same server they stay.
            plain = await one.export()
            draft = await one.import_(plain, "replace", "ann")
            assert await one.draft_changes(draft.id) == ()
            # A page whose archive did not come along is named.
            bare = {**plain, "blobs": {}}
            bare["tree"]["sign_in_pages"].append({"name": "Lost", "kind": "custom", "templates": "0" * 64})
            draft = await one.import_(bare, "replace", "ann")
            [finding] = (await one.validate(draft.id)).errors
            assert finding.field == "sign_in_pages/Lost/templates"

    run(work())


def test_parts_and_merging(tmp_path):
    async def work():
        async with services(tmp_path) as [(service, _)]:
            await change(service, INSERT("roles/Staff", {}), INSERT("roles/Guests", {}))
            document = await service.export(["roles/Staff", "network"])
            assert list(document["parts"]) == ["roles/Staff", "network"]
            await change(
                service, REMOVE("roles/Staff"), SET("network/mtu", 1300), SET("roles/Guests/description", "x")
            )
            draft = await service.import_(document, "merge", "ann")
            assert [(c.path, c.kind) for c in await service.draft_changes(draft.id)] == [
                ("network/mtu", "changed"), ("roles/Staff", "added"),
            ]  # fmt: skip
            roles = {"lockgate": 1, "parts": {"roles": [{"name": "Users"}, {"name": "New"}]}}
            merged = await service.import_(roles, "merge", "ann")
            assert [(c.path, c.kind) for c in await service.draft_changes(merged.id)] == [
                ("roles/Users/description", "changed"), ("roles/New", "added"),
            ]  # fmt: skip
            replaced = await service.import_(roles, "replace", "ann")
            assert ("roles/Guests", "removed") in [
                (c.path, c.kind) for c in await service.draft_changes(replaced.id)
            ]

    run(work())


HOSTILE = [
    ({}, "document-invalid", '"lockgate": 1'),
    ([], "document-invalid", '"lockgate": 1'),
    ({"lockgate": 2, "tree": {}}, "document-invalid", '"lockgate": 1'),
    ({"lockgate": 1}, "document-invalid", 'either "tree" or "parts"'),
    ({"lockgate": 1, "tree": {}, "parts": {}}, "document-invalid", 'either "tree" or "parts"'),
    ({"lockgate": 1, "tree": []}, "document-invalid", '"tree" is []'),
    ({"lockgate": 1, "tree": {}, "exec": "x"}, "document-invalid", 'unknown key "exec"'),
    ({"lockgate": 1, "parts": {"roles/../x": 1}}, "no-such-object", '".."'),
    ({"lockgate": 1, "parts": {"": {}}}, "document-invalid", "path"),
    ({"lockgate": 1, "parts": {"network/mtu/x": 1}}, "no-such-setting", "network/mtu"),
    ({"lockgate": 1, "tree": {}, "blobs": {"x": "eA=="}}, "document-invalid", "not what its name says"),
    ({"lockgate": 1, "tree": {}, "blobs": {"x": "%"}}, "document-invalid", "not base64"),
    ({"lockgate": 1, "tree": {}, "blobs": 1}, "document-invalid", "blobs"),
    (
        {"lockgate": 1, "tree": {}, "secrets": {"method": "argon2id aes-256-gcm", "memory_kib": 1 << 30, "passes": 1, "lanes": 1, "salt": ""}},
        "document-invalid", "unknown way of encryption",
    ),
]  # fmt: skip


def nested(depth):
    value = 1
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(("document", "code", "words"), [
    *HOSTILE,
    ({"lockgate": 1, "tree": nested(10_000)}, "document-too-deep", "levels deep"),
    ({"lockgate": 1, "tree": {"roles": [0] * 600_000}}, "document-too-large", "500000 values"),
])  # fmt: skip
def test_a_hostile_document_is_refused_by_name(document, code, words):
    data = small_tree()
    with pytest.raises(ProblemError) as caught:
        transfer.import_(document, data, "merge", PASSPHRASE)
    assert caught.value.problem.code == code
    assert words in caught.value.problem.text()


def test_users_follow_a_renamed_auth_server(tmp_path):
    async def work():
        async with services(tmp_path) as [(service, store)]:
            await store.users.add(user("alice"))
            await change(
                service, RENAME("auth_servers/System Local", "A"), RENAME("auth_servers/A", "People")
            )
            assert service.tree.realms[0].server == "People"
            assert await store.users.find("People", "alice") is not None
            assert await store.users.find("System Local", "alice") is None
            await service.apply("ann", "", [RENAME("auth_servers/People", "System Local")])
            assert await store.users.find("System Local", "alice") is not None

    run(work())


def test_users_do_not_go_where_another_server_was(tmp_path):
    """A draft that shows no trace of it must not make administrators of users."""
    here, admins = "auth_servers/System Local", "auth_servers/Administrators"
    renamed = [REMOVE(admins), RENAME(here, "Administrators")]
    back = [
        INSERT(here, {"kind": "local"}),
        SET("realms/Users/server", "System Local"),
        SET("log/keep_days", 5),
    ]
    by_way = [
        RENAME(here, "Z"),
        RENAME(admins, "Y"),
        REMOVE("auth_servers/Y"),
        RENAME("auth_servers/Z", "Y"),
        RENAME("auth_servers/Y", "Administrators"),
    ]

    async def work():
        async with services(tmp_path) as [(service, store)]:
            await store.users.add(user("alice"))
            for steps in (
                [*renamed, *back],
                [*by_way, *back],
                [*by_way, INSERT("auth_servers/Y", {"kind": "local"})],
            ):
                draft = await service.create_draft("ann")
                for step in steps:
                    draft = await service.edit(draft.id, draft.version, [step])
                await service.commit(draft.id, draft.version, "root", "")
                assert await store.users.find("System Local", "alice") is not None
                assert await store.users.find("Administrators", "alice") is None
                await service.rollback(1, "root", "")
            # Two that swap their names are followed.
            await store.users.add(user("root", server="Administrators"))
            await service.apply(
                "ann",
                "",
                [
                    RENAME(here, "T"),
                    RENAME(admins, "System Local"),
                    RENAME("auth_servers/T", "Administrators"),
                ],
            )
            assert await store.users.find("Administrators", "alice") is not None
            assert await store.users.find("System Local", "root") is not None

    run(work())


def test_identities_are_made(tmp_path):
    async def work():
        async with services(tmp_path) as [(service, _)]:
            new = {"connections": [{"name": "Office"}, {"name": "Home"}]}
            tree = (await change(service, INSERT("connection_sets/New", new))).tree
            made = tree.connection_sets[1]
            assert len({made.guid, *(c.guid for c in made.connections)}) == 3
            assert made.version == 1
            await change(service, SET("log/keep_days", 1))
            assert service.tree.connection_sets[1] == made

    run(work())


def test_drafts_are_bounded_and_discarded(tmp_path):
    async def work():
        async with services(tmp_path) as [(service, store)]:
            drafts = [await service.create_draft("ann") for _ in range(3)]
            assert {draft.id for draft in await service.drafts()} == {draft.id for draft in drafts}
            await service.discard(drafts[0].id, author="bob")
            assert (await refused(service.draft(drafts[0].id))).code == "no-such-draft"
            assert (await store.audit.newest(1))[0].event == "config-draft-discarded"
            replaced = await service.replace(drafts[1].id, 1, {"anything": ["\ud800"]})
            assert (await service.draft(replaced.id)).data == {"anything": ["\ud800"]}
            assert not (await service.validate(replaced.id)).configuration
            assert (await refused(service.replace(replaced.id, 2, [1]))).code == "config-malformed"

    run(work())


def test_a_setting_that_a_later_release_adds_has_its_default(tmp_path):
    async def work():
        async with services(tmp_path) as [(service, store)]:
            tree = default_tree()
            record = first_revision(tree, "ann", "", 1.0, number=2)
            data = json.loads(record.tree)
            del data["metrics"], data["roles"][0]["ui"]
            old = type(record)(
                **{**{f: getattr(record, f) for f in record.__slots__}, "tree": json.dumps(data)}
            )
            await store.revisions.add(old, 1)
            await service.refresh()
            assert service.tree == tree
            assert Configuration.model_validate(service.data) == tree

    run(work())
