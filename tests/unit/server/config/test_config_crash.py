"""kill -9 at any moment of a commit or an import leaves the old or the new state, never a mixture."""

import json
import math
import signal
import subprocess
import sys

import pytest

from lockgate.server.audit import Audit
from lockgate.server.config.edits import SetValue
from lockgate.server.config.revision import first_revision
from lockgate.server.config.service import ConfigService
from lockgate.server.datadir import DataDirectory
from lockgate.server.vault import open_vault
from tests.unit.server.config.support import default_tree
from tests.unit.server.support import new_store, run, same_store

# Forks processes that do the same work on copies of one data directory; the n-th dies by SIGKILL when its n-th
# statement, or the commit of a transaction, is about to run. Prints how each ended, until one lived.
KILLER = """
import asyncio, json, os, shutil, signal, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine

from lockgate.server.audit import Audit
from lockgate.server.config.service import ConfigService
from lockgate.server.datadir import DataDirectory
from lockgate.server.store import open_store
from lockgate.server.vault import open_vault

place, what = Path(sys.argv[1]), sys.argv[2]
moment, count = 0, None

def step(*_):
    global count
    if count is not None:
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

event.listen(Engine, "before_cursor_execute", step)
event.listen(Engine, "commit", step)

async def work():
    global count
    directory = DataDirectory(place / str(moment))
    store = await open_store(directory)
    config = ConfigService(store, open_vault(directory), Audit(store.audit))
    await config.load()
    count = 0
    if what == "import":
        document = json.loads((directory.path / "document.json").read_text())
        draft = await config.import_(document, "replace", "ann")
    else:
        [draft] = await config.drafts()
    await config.commit(draft.id, draft.version, "ann", "because")
    await store.close()

while moment < 200:
    shutil.copytree(place / "base", place / str(moment))
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)
        asyncio.run(work())
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(ended, flush=True)
    if ended != -signal.SIGKILL:
        break
    moment += 1
"""


async def prepare(folder, *, with_draft):
    async with new_store(folder) as store:
        await store.revisions.add(first_revision(default_tree(), "setup", "", 1.0), 0)
        config = ConfigService(store, open_vault(DataDirectory(folder)), Audit(store.audit))
        await config.load()
        page = await store.blobs.put(b"an archive")
        document = await config.export()
        document["tree"]["network"]["mtu"] = 1300
        document["tree"]["roles"].append({"name": "Staff"})
        document["tree"]["sign_in_pages"].append({"name": "Custom", "kind": "custom", "templates": page})
        document["blobs"] = {page: "YW4gYXJjaGl2ZQ=="}
        (folder / "document.json").write_text(json.dumps(document))
        if with_draft:
            draft = await config.create_draft("ann")
            await config.replace(draft.id, 1, document["tree"])
        else:
            assert await store.blobs.delete_unused(math.inf) == [page]


async def state(folder):
    """Number in force, whether it is the new tree, revisions in the audit, drafts left. The store goes on from there."""
    async with same_store(folder) as store:
        config = ConfigService(store, open_vault(DataDirectory(folder)), Audit(store.audit))
        await config.load()
        new = [role.name for role in config.tree.roles] == ["Users", "Staff"]
        assert new == (config.tree.network.mtu == 1300)
        audited = tuple(e.revision for e in await store.audit.newest(100) if e.event == "config-committed")
        drafts = await config.drafts()
        for draft in drafts:
            assert (await config.validate(draft.id)).errors == ()
        number = config.number
        assert (await config.apply("ann", "", [SetValue("log/keep_days", 1)])).number == number + 1
        return number, new, audited, len(drafts)


@pytest.mark.parametrize("what", ["commit", "import"])
def test_a_kill_leaves_the_old_or_the_new_state(tmp_path, what):
    (tmp_path / "base").mkdir()
    run(prepare(tmp_path / "base", with_draft=what == "commit"))
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path), what], capture_output=True, text=True, timeout=120
    )
    endings = [int(line) for line in done.stdout.split()]
    assert endings[-1] == 0, done.stderr
    assert set(endings[:-1]) == {-signal.SIGKILL}
    states = [run(state(tmp_path / str(moment))) for moment in range(len(endings))]
    before = {(1, False, (), 1)} if what == "commit" else {(1, False, (), 0), (1, False, (), 1)}
    assert states[-1] == (2, True, (2,), 0)
    assert set(states) == {*before, (2, True, (2,), 0)}
    assert len(endings) > 5  # killed in the middle, not only at the edges
