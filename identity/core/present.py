"""What every template may use beside its own values."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from babel.dates import format_datetime
from flask import Flask, g, request, url_for

from identity.core.i18n import LANGUAGES, install_i18n, language
from identity.core.settings import Settings
from identity.core.web import csrf_token, this_page, use, way_back

HTML_LANGUAGES = {"en": "en", "zh_Hans": "zh-Hans"}


def local_time(value: datetime | None, style: str = "yyyy-MM-dd HH:mm:ss") -> str:
    """A time in the organisation's zone."""
    if value is None:
        return ""
    return str(format_datetime(value, style, tzinfo=use(Settings).zone, locale=language()))


def asset(name: str) -> str:
    """The address of a file of ours."""
    return url_for("static", filename=name)


def install_presentation(app: Flask) -> None:
    """Make `_()`, `csrf_token()`, `asset()`, `|local_time` and the page's frame values known to templates."""
    install_i18n(app)
    app.jinja_env.globals["csrf_token"] = csrf_token
    app.jinja_env.globals["asset"] = asset
    app.jinja_env.filters["local_time"] = local_time
    app.context_processor(_frame)


def _frame() -> dict[str, Any]:
    """What the frame of every page shows."""
    actor = g.get("actor")
    code = language()
    return {
        "locale": code,
        "lang": code,
        "html_lang": HTML_LANGUAGES[code],
        "languages": [(one, name, HTML_LANGUAGES[one]) for one, name in LANGUAGES.items()],
        "here": this_page() if request.method == "GET" else way_back() or "/",
        "viewer": actor.name if actor else None,
        "demo": use(Settings).tessera_demo,
    }
