"""The templates' engine: everything is escaped, unknown names are errors, templates come from the package only."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

from lockgate.server.web.forms import labels, when
from lockgate.server.web.forms.assets import Assets, icon


def make_environment(packages: Sequence[str], assets: Assets) -> Environment:
    """An environment with the templates of these packages, before those of the forms.

    In templates: `icon(name)`, `asset(file name)`, and filters for times, spans and sizes.
    """
    loaders = [PackageLoader(package) for package in (*packages, "lockgate.server.web.forms")]
    environment = Environment(
        loader=ChoiceLoader(loaders),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals["icon"] = icon
    environment.globals["asset"] = assets.urls.__getitem__
    environment.filters.update(
        moment=when.moment,
        iso=when.iso,
        utc=when.utc,
        duration=when.duration,
        short=when.short,
        size=when.size,
        rate=when.rate,
        option=labels.option,
    )
    return environment
