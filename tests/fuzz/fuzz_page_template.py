"""A template of a custom sign-in page: refused with findings, or rendered so that no value leaves its place."""

from lockgate.server.page_template import TemplateError, read_template
from tests.fuzz import harness

EVIL = "\"'><script>{{title}}{{{title}}}`&=\u2028"
VALUES = {
    "title": EVIL,
    "error": EVIL,
    "user": EVIL,
    "action": "/",
    "assets": "/portal/pages/0",
    "form_token": "t",
    "realms": [{"name": EVIL, "value": EVIL}] * 3,
}


def one_input(data: bytes) -> None:
    source = data.decode(errors="replace")
    findings: tuple[str, ...] | None = None
    try:
        template = read_template("sign-in", source, complete=False)
    except TemplateError as error:
        findings = error.findings
    if findings is not None:
        assert findings
        return
    page = template.render(VALUES)
    assert "<script" not in page
    assert "'><" not in page
    assert len(page) < 200 * (len(source) + 1) * len(EVIL)


if __name__ == "__main__":
    harness.main("page_template")
