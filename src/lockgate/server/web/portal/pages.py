"""The portal's pages: our templates, or those of a custom sign-in page, with the headers that go with each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.responses import HTMLResponse, JSONResponse, Response

from lockgate.model.prompt import Refused
from lockgate.server.config.tree.authentication import SignInPage
from lockgate.server.page_template import Template
from lockgate.server.sign_in_pages import PageArchive, PageArchives
from lockgate.server.store.interface import WebSessionRecord
from lockgate.server.web.forms.assets import Assets
from lockgate.server.web.forms.environment import make_environment
from lockgate.server.web.forms.prompts import PromptForm
from lockgate.server.web.forms.when import utc

ARCHIVES = "/portal/pages/"
"""Where the files of custom pages are, below the SHA-256 of their archive."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
CUSTOM_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""Uploaded pages run no script at all, and load nothing from elsewhere."""
FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
"""For a file of theirs that is looked at by itself, such as an SVG picture."""


def headers(policy: str = POLICY) -> dict[str, str]:
    """Of a page; the listener adds what holds for everything."""
    return {"Referrer-Policy": "same-origin", "Content-Security-Policy": policy}


Shell = Callable[[WebSessionRecord, str], Awaitable[dict[str, Any]]]
"""What every page for somebody who is signed in shows around its own: (session, home page) → values."""


def denied(status: int, code: str) -> Response:
    """For what no page of ours asks for."""
    return JSONResponse({"code": code}, status, headers=headers())


class Pages:
    """Renders. One per application; templates are compiled once."""

    def __init__(self, assets: Assets, archives: PageArchives, product: Callable[[], str]) -> None:
        """product: what this gateway is called."""
        self._archives, self._product = archives, product
        self._templates = make_environment(["lockgate.server.web.portal"], assets)

    def page(self, name: str, *, status: int = 200, layout: str = "signed-in", **values: Any) -> Response:
        """One of our own templates."""
        text = self._templates.get_template(f"{name}.html").render(
            product=self._product(), layout=layout, **values
        )
        return HTMLResponse(text, status, headers=headers())

    async def form(
        self,
        page: SignInPage,
        form: PromptForm,
        *,
        action: str,
        token: str,
        notice: str = "",
        status: int = 200,
    ) -> Response:
        """A prompt, on the page of a sign-in policy. notice: good news to show above it."""
        archive = await self._archive(page)
        template = None if archive is None else archive.templates.get(form.kind)
        if archive is not None and template is not None:
            values = _values(form) | {"action": action, "form_token": token}
            return _custom(template, archive, page, values, status)
        return self.page(
            "sign_in",
            status=status,
            layout="single",
            title=f"{form.heading} – {self._product()}",
            page=page,
            form=form,
            action=action,
            token=token,
            notice=notice,
        )

    async def message(
        self,
        page: SignInPage,
        kind: str,
        *,
        heading: str,
        text: str,
        again: str = "",
        again_text: str = "Sign in again",
        code: str = "",
        refused: Refused | None = None,
        status: int = 200,
    ) -> Response:
        """The end of something: `kind` is "refused" or "signed-out". refused: with its reasons and support code,
        which a custom page shows as part of its text."""
        told = Refused(code, text) if refused is None else refused
        archive = await self._archive(page)
        template = None if archive is None else archive.templates.get(kind)
        if archive is not None and template is not None:
            values = {"text": " ".join(told.lines()), "again": again, "code": code}
            return _custom(template, archive, page, values, status)
        return self.page(
            "message",
            status=status,
            layout="single",
            title=f"{heading} – {self._product()}",
            heading=heading,
            text=text,
            reasons=told.reasons,
            support=told.support,
            again=again,
            again_text=again_text,
            code=code,
            bad=kind == "refused",
        )

    async def file(self, archive: str, name: str) -> Response | None:
        """A file of a custom page; None when there is no such file."""
        found = await self._archives.get(archive)
        asset = None if found is None else found.assets.get(name)
        if asset is None:
            return None
        kept = headers(FILE_POLICY) | {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(asset.content, headers=kept | {"Content-Type": asset.content_type})

    async def _archive(self, page: SignInPage) -> PageArchive | None:
        if page.kind != "custom" or not page.templates:
            return None
        return await self._archives.get(page.templates)


def _custom(
    template: Template, archive: PageArchive, page: SignInPage, values: Mapping[str, object], status: int
) -> Response:
    common = {
        "title": page.title,
        "welcome": page.welcome,
        "instructions": page.instructions,
        "assets": ARCHIVES + archive.digest,
    }
    return HTMLResponse(template.render({**common, **values}), status, headers=headers(CUSTOM_POLICY))


def _values(form: PromptForm) -> dict[str, object]:
    """What a custom template can show of a form (`page_template.VALUES`)."""
    values: dict[str, object] = {"text": form.text, "error": form.error}
    for field in form.fields:
        match field.name:
            case "username":
                values |= {"user": field.value, "user_label": field.label, "retry": bool(form.error)}
            case "password":
                values["password_label"] = field.label
            case "realm" | "roles" | "session":
                names = {"realm": "realms", "roles": "roles", "session": "sessions"}
                values[names[field.name]] = [
                    {
                        "value": option.value,
                        "name": " ".join([option.label, option.detail]).strip()
                        + ("" if option.time is None else f" {utc(option.time)}"),
                    }
                    for option in field.options
                ]
    return values
