"""Archives of custom sign-in pages by REST and in the console, up to the portal that shows them."""

from __future__ import annotations

import base64
import re

from lockgate.server.chores import Chores
from lockgate.server.config.edits import SetValue
from tests.unit.server.support import run
from tests.unit.server.test_portal import CUSTOM, archive
from tests.unit.server.web_subject import Caller, Subject, web

ZIP = archive(sign_in_html=CUSTOM, look_css="p{}")
PATH = "/api/v1/sign-in-page-archives"


def given(data: bytes = ZIP, **more: bool) -> dict[str, object]:
    return {"archive": base64.b64encode(data).decode(), **more}


async def commit(subject: Subject, *edits: SetValue) -> None:
    config = subject.parts.config
    await config.apply("test", "test", edits, None)


def test_an_archive_by_rest(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            await subject.role("Looks", authentication="read")
            admin = await subject.token("*")
            stored = await subject.post(PATH, admin, given())
            assert stored.status == 201
            digest = stored.json["sha256"]
            assert (stored.json["templates"], stored.json["files"]) == (["sign-in"], ["look.css"])
            assert (await subject.get(PATH, admin)).json["archives"] == []
            page = "sign_in_pages/Default Sign-In Page"
            await commit(subject, SetValue(f"{page}/kind", "custom"), SetValue(f"{page}/templates", digest))
            (listed,) = (await subject.get(PATH, admin)).json["archives"]
            assert (listed["sha256"], listed["used_by"]) == (digest, ["Default Sign-In Page"])
            assert (await subject.get(f"{PATH}/{digest}", admin)).content == ZIP
            shown = await subject.get("/", listener="gateway")
            assert b'class="ours"' in shown.content
            reader = await subject.token("authentication:read")
            assert (await subject.post(PATH, reader, given())).status == 403
            assert (await subject.get(PATH, reader)).status == 200

    run(work())


def test_what_is_no_archive_is_refused_and_not_stored(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            admin = await subject.token("*")
            harm = archive(sign_in_html=CUSTOM.replace("<p>", "<script>1</script><p>"))
            bare = archive(sign_in_html="<p>Nothing</p>")
            for body in (given(b"no zip"), given(harm), given(harm, skip_validation=True), given(bare)):
                reply = await subject.post(PATH, admin, body)
                assert (reply.status, reply.code) == (400, "bad-sign-in-pages")
                assert reply.json["details"]
            assert (await subject.post(PATH, admin, {"archive": "%%"})).status == 400
            assert await subject.store.blobs.all() == {}
            assert (await subject.post(PATH, admin, given(bare, skip_validation=True))).status == 201
            assert (await subject.get(f"{PATH}/{'0' * 64}", admin)).status == 404

    run(work())


async def sent(subject: Subject, caller: Caller, csrf: str, fields: dict[str, str], content: bytes):
    """A form with a file, as a browser sends it."""
    lines = [
        *(
            f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        ),
        f'--x\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n{csrf}\r\n',
        '--x\r\nContent-Disposition: form-data; name="archive"; filename="a.zip"\r\n'
        "Content-Type: application/zip\r\n\r\n",
    ]
    body = "".join(lines).encode() + content + b"\r\n--x--\r\n"
    form = caller.plus(("content-type", "multipart/form-data; boundary=x"))
    return await subject.post("/admin/upload-sign-in-pages", form, body)


def test_the_console_makes_a_draft_of_it(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            admin = await subject.console()
            page = await subject.get("/admin/upload-sign-in-pages", admin)
            assert b"Skip validation checks during upload" in page.content
            found = re.search(rb'name="csrf" value="([^"]+)"', page.content)
            assert found is not None
            csrf = found[1].decode()
            bad = await sent(subject, admin, csrf, {"name": "Ours"}, b"no zip")
            assert (bad.status, b"bad-sign-in-pages" in bad.content) == (400, True)
            assert (await sent(subject, admin, csrf, {"name": ""}, ZIP)).status == 422
            done = await sent(subject, admin, csrf, {"name": "Ours"}, ZIP)
            assert done.status == 303
            (head,) = await subject.parts.config.drafts()
            draft = await subject.parts.config.draft(head.id)
            ours = next(each for each in draft.data["sign_in_pages"] if each["name"] == "Ours")
            assert ours["kind"] == "custom"
            assert ours["templates"] in await subject.store.blobs.all()
            assert not (await subject.parts.config.validate(head.id)).errors

    run(work())


def test_an_archive_that_nobody_names_is_forgotten_after_a_day(tmp_path):
    async def work():
        async with web(tmp_path) as subject:
            digest = await subject.store.blobs.put(ZIP, subject.clock())
            chores = Chores(subject.clock)
            subject.parts.add_chores(chores)
            subject.clock.now += 86400
            await chores.turn()
            assert digest in await subject.store.blobs.all()
            subject.clock.now += 3600
            await chores.turn()
            assert await subject.store.blobs.all() == {}

    run(work())
