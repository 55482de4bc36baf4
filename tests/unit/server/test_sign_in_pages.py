"""Custom sign-in pages: what is refused at upload, and that what is shown is escaped."""

from __future__ import annotations

import asyncio
import contextlib
import io
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockgate.model.problem import ProblemError
from lockgate.server.page_template import MAX_TEMPLATE, VALUES, Template, TemplateError, read_template
from lockgate.server.sign_in_pages import MAX_ARCHIVE, MAX_FILES, PageArchives, read_archive

DOCUMENTATION = Path(__file__).parents[3] / "docs" / "sign-in-pages.md"

FORM = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{title}}</title>
<link rel="stylesheet" href="{{assets}}/look.css"></head><body>
<h1>{{title}}</h1>{{#error}}<p role="alert">{{error}}</p>{{/error}}
<form method="post" action="{{action}}"><input type="hidden" name="csrf" value="{{form_token}}">
<label>{{user_label}} <input name="username" value="{{user}}"></label>
<label>{{password_label}} <input name="password" type="password"></label>
{{#realms}}<label><input type="radio" name="realm" value="{{value}}">{{name}}</label>{{/realms}}
<button>Go</button></form></body></html>
"""
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
EVIL = "\"'><script>alert(1)</script>{{secret}}{{{title}}}`&"


def packed(files: dict[str, bytes | str], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, text in files.items():
            file.writestr(name, text)
    return out.getvalue()


def refused(data: bytes, **options: bool) -> str:
    with pytest.raises(ProblemError) as caught:
        read_archive(data, **options)
    assert caught.value.problem.code == "bad-sign-in-pages"
    return " ".join(caught.value.problem.details)


# -- templates --------------------------------------------------------------------------------------


def test_a_page_shows_values_and_escapes_all_of_them() -> None:
    page = read_template("sign-in", FORM).render(
        {
            "title": EVIL,
            "error": EVIL,
            "user": EVIL,
            "form_token": "t",
            "action": "/staff/",
            "assets": "/portal/pages/ab",
            "realms": [{"name": EVIL, "value": "1"}, {"name": "Two", "value": "2"}],
            "secret": "hidden",
        }
    )
    assert page.count("&lt;script&gt;") == 5
    assert page.count("&quot;&#x27;&gt;&lt;script") == 5
    assert "<script" not in page
    assert "hidden" not in page.replace('type="hidden"', "")
    assert "{{secret}}{{{title}}}&#96;&amp;" in page  # a value is never looked into for tags
    assert 'action="/staff/"' in page
    assert page.count('type="radio"') == 2


def test_the_example_of_the_documentation_is_a_page() -> None:
    text = DOCUMENTATION.read_text()
    example = text.partition("```html\n")[2].partition("```")[0]
    archive = read_archive(packed({"sign-in.html": example, "look.css": "p{}"}))
    assert set(archive.templates) == {"sign-in"}
    for name in VALUES:
        assert f"`{name}.html`" in text


class Inside:
    """What a template must not reach."""

    secret = "reached"

    def __call__(self) -> str:
        return "called"

    def __str__(self) -> str:
        return "text"


def test_values_are_plain_whatever_is_given() -> None:
    page = Template("{{title}}{{#name}}{{secret}}{{/name}}{{#value}}x{{/value}}").render(
        {"title": lambda: "called", "name": Inside(), "value": [Inside()] * 1000}
    )
    assert "called" not in page
    assert "reached" not in page
    assert page.endswith("x" * 100)
    assert not page.endswith("x" * 101)


@given(st.text())
def test_whatever_a_value_is_it_stays_inside_its_place(value: str) -> None:
    page = Template('<p title="{{title}}">{{title}}</p>').render({"title": value})
    inside = page.removeprefix('<p title="').removesuffix("</p>")
    assert inside.count('"') == 1
    assert not set(inside.replace('">', "", 1)) & set("<>\"'`")


GOOD_FORM = (
    '<form method="post" action="{{action}}"><input name="csrf" value="{{form_token}}">'
    '<input name="username"><input name="password"></form>'
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{{title}}}", "a tag is"),
        ("{{&title}}", "a tag is"),
        ("{{>title}}", "a tag is"),
        ("{{> ../../etc/passwd}}", "a tag is"),
        ("{{=<% %>=}}<%title%>", "a tag is"),
        ("{{! comment }}", "a tag is"),
        ("{{title.__class__}}", "a tag is"),
        ("{{title", "a tag is"),
        ("title}}", "without its"),
        ("{{" * 30000, "a tag is"),
        ("{{cookie}}", "nothing that this page can show"),
        ("{{sessions}}", "nothing that this page can show"),
        ("{{#title}}", "does not end"),
        ("{{#title}}{{#name}}{{/title}}{{/name}}", "did not begin"),
        ("{{#realms}}{{#realms}}{{/realms}}{{/realms}}", "list inside a list"),
        # What browsers read differently than a parser that is more lenient.
        ('<title><i title="</title><script>alert(1)</script>">x</i></title>', "written plainly"),
        ('<!-- -- ><i title="--><script>alert(1)</script>">x</i>', "written plainly"),
        ('</p x="><i title="><script>alert(1)</script>">', "written plainly"),
        ('</p {{#retry}}x="{{/retry}}><script>alert(1)</script>{{#retry}}"{{/retry}}>', "written plainly"),
        ('<p title=x"{{title}}">', "between quotes"),
        ('<p title=a="{{title}}">', "written plainly"),
        ('<p title="a"id="b">', "written plainly"),
        ("{{#title}}" * 9 + "{{/title}}" * 9, "inside each other"),
        ("{{title}}" * 501, "more than 500"),
        ("<script>alert(1)</script>", "element script"),
        ("<SCRIPT src=x></SCRIPT>", "element script"),
        ("<style>a{}</style>", "element style"),
        ("<iframe></iframe>", "element iframe"),
        ("<svg></svg>", "element svg"),
        ("<base href='https://evil.example/'>", "element base"),
        ("<object data=x></object>", "element object"),
        ('<meta http-equiv="refresh" content="0">', "meta is allowed"),
        ('<link rel="preload" href="{{assets}}/a.css">', "style sheets and icons"),
        ('<link rel="stylesheet" href="https://evil.example/a.css">', "a link leads"),
        ('<p onclick="x()">', "attribute onclick"),
        ('<p style="color:red">', "attribute style"),
        ("<p {{title}}>", "not allowed"),
        ("<p title={{title}}>", "between quotes"),
        ("<p title=x{{title}}>", "between quotes"),
        ('<p {{#title}}title="a"{{/title}}>', "outside of < and >"),
        ('<p title="{{^retry}}"{{/retry}}{{#retry}}"{{/retry}} {{user}}">', "outside of < and >"),
        ("<{{title}}>", "&lt;"),
        ('<a href="{{title}}">x</a>', "a link leads"),
        ('<a href="javascript:alert(1)">x</a>', "a link leads"),
        ('<a href="java\nscript:alert(1)">x</a>', "a link leads"),
        ('<img src="https://evil.example/x.png">', "a picture comes"),
        ('<img src="{{assets}}{{title}}">', "a picture comes"),
        ('<form method="post" action="https://evil.example/">', "{{action}}"),
        ('<form method="get" action="{{action}}">', 'method="post"'),
        ('<input type="{{title}}">', "is fixed"),
        ('<input name="{{title}}">', "is fixed"),
        ("<!-- {{title}} -->", "a comment"),
        ("<!-- > <script> -->", "a comment"),
        ("<!DOCTYPE html [<!ENTITY x 'y'>]>", "declaration"),
        ("<?xml version='1.0'?>", "not HTML"),
        ("<![CDATA[x]]>", "not HTML"),
        ("a < b", "&lt;"),
        ("<p", "in the middle"),
        ("\ue000", "no text has"),
        ("x" * (MAX_TEMPLATE + 1), "more than"),
    ],
)
def test_what_could_do_harm_is_refused_also_when_validation_is_skipped(text: str, reason: str) -> None:
    with pytest.raises(TemplateError) as caught:
        read_template("sign-in", GOOD_FORM + text, complete=False)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("sign-in", "<p>Nothing</p>", "there is no form"),
        ("sign-in", '<form method="post" action="{{action}}"></form>', "csrf"),
        ("sign-in", GOOD_FORM.replace("password", "passphrase"), "no field password"),
        ("new-password", GOOD_FORM, "no field old"),
    ],
)
def test_what_would_not_work_is_refused_unless_validation_is_skipped(
    name: str, text: str, reason: str
) -> None:
    with pytest.raises(TemplateError, match=reason):
        read_template(name, text)
    read_template(name, text, complete=False)


# -- archives ---------------------------------------------------------------------------------------


def test_an_archive_of_a_folder() -> None:
    found = read_archive(
        packed({"look/sign-in.html": FORM, "look/look.css": "p{}", "look/img/logo.png": PNG, "look/img/": ""})
    )
    assert set(found.templates) == {"sign-in"}
    assert set(found.assets) == {"look.css", "img/logo.png"}
    assert found.assets["look.css"].content_type == "text/css; charset=utf-8"


@pytest.mark.parametrize(
    "name",
    [
        "../sign-in.html",
        "/etc/passwd.txt",
        "a/../../b.css",
        "a//b.css",
        "..\\b.css",
        "C:b.css",
        ".hidden.css",
        "a/.b/c.css",
        "b.css.",
        "ä.css",
        "a b.css",
        "a\nb.css",
        "a/b/c/d/e/f.css",
        "x" * 70 + ".css",
    ],
)
def test_names_that_are_paths_are_refused(name: str) -> None:
    assert refused(packed({"sign-in.html": FORM, name: b"x"}))


def test_a_name_that_two_programs_read_differently_is_refused() -> None:
    data = packed({"sign-in.html": FORM, "b.css%.png": b"x"}).replace(b"b.css%.png", b"b.css\0.png")
    assert "names are letters" in refused(data)


def test_links_devices_and_doubles_are_refused() -> None:
    for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR):
        entry = zipfile.ZipInfo("look.css")
        entry.external_attr = (kind | 0o777) << 16
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as file:
            file.writestr("sign-in.html", FORM)
            file.writestr(entry, "/etc/passwd")
        assert "links and devices" in refused(out.getvalue())
    assert "twice" in refused(packed({"sign-in.html": FORM, "Look.css": "", "look.css": ""}))


def test_bombs_are_refused_before_they_are_unpacked() -> None:
    assert "too tightly" in refused(packed({"sign-in.html": FORM, "a.txt": bytes(1 << 20)}))
    assert "more than 2 MB" in refused(packed({"sign-in.html": FORM, "a.txt": bytes(3 << 20)}))
    lying = bytearray(packed({"sign-in.html": FORM, "a.txt": bytes(3 << 20)}))
    central = lying.rfind(b"PK\1\2")
    lying[central + 24 : central + 28] = (10).to_bytes(4, "little")  # the size that it declares
    assert refused(bytes(lying))
    many = {f"f{number}.txt": b"x" for number in range(MAX_FILES + 1)}
    assert "more than 200 files" in refused(packed(many))
    noise = bytes(range(256)) * (7 << 12)
    assert refused(packed({f"{number}.txt": noise for number in range(40)}, zipfile.ZIP_STORED))
    assert "more than 5 MB" in refused(bytes(MAX_ARCHIVE + 1))
    assert "method" in refused(packed({"sign-in.html": FORM}, zipfile.ZIP_BZIP2))


def test_kinds_of_files() -> None:
    assert "not served" in refused(packed({"sign-in.html": FORM, "run.js": "alert(1)"}))
    assert "not served" in refused(packed({"sign-in.html": FORM, "inner.zip": packed({"a": "b"})}))
    assert "pages are called" in refused(packed({"sign-in.html": FORM, "other.html": FORM}))
    assert "not what its name says" in refused(packed({"sign-in.html": FORM, "a.png": b"<html>"}))
    assert "UTF-8" in refused(packed({"sign-in.html": b"\xff"}))
    assert "sign-in.html is missing" in refused(packed({"a.css": ""}))
    assert refused(b"PK\3\4 not a zip")
    assert refused(b"")
    harm = FORM.replace("</body>", "<script>1</script></body>")
    assert "element script" in refused(packed({"sign-in.html": harm}), skip_validation=True)


@given(st.binary(max_size=400), st.integers(0, 400), st.integers(0, 255))
def test_damaged_archives_are_refused_and_nothing_else(data: bytes, at: int, byte: int) -> None:
    whole = bytearray(packed({"sign-in.html": GOOD_FORM}))
    whole[at % len(whole)] = byte
    for candidate in (data, b"PK" + data, bytes(whole)):
        with contextlib.suppress(ProblemError):
            assert read_archive(candidate).templates


class Blobs(dict):
    async def put(self, content: bytes) -> str:
        self[read_archive(content, skip_validation=True).digest] = content
        return "put"

    async def get(self, sha256: str) -> bytes | None:
        return dict.get(self, sha256)


def test_stored_archives_are_checked_again_before_use() -> None:
    asyncio.run(_stored())


async def _stored() -> None:
    blobs = Blobs()
    archives = PageArchives(blobs)
    digest = await archives.accept(packed({"sign-in.html": FORM}))
    assert set((await archives.get(digest)).templates) == {"sign-in"}
    assert await archives.get("0" * 64) is None
    blobs["1" * 64] = packed({"sign-in.html": FORM})
    assert await archives.get("1" * 64) is None  # not what its name says
    with pytest.raises(ProblemError):
        await archives.accept(b"no archive")
