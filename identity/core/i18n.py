"""Two languages, chosen by the browser or by a switch; English sentences are the message ids."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from babel.dates import format_datetime
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations
from flask import Flask, g, has_request_context, request

from identity.core.settings import Settings
from identity.core.web import use

LOCALES = ("en", "zh_Hans")
COOKIE = "lang"
CATALOGUES = Path(__file__).resolve().parents[1] / "translations"


def current_locale() -> str:
    """The language of this request: the switch's cookie, else what the browser asks for, else English."""
    if not has_request_context():
        return "en"
    if "locale" not in g:
        chosen = request.cookies.get(COOKIE, "")
        if chosen not in LOCALES:
            wanted = request.accept_languages.best_match(["zh", "zh-CN", "zh-TW", "zh-Hans", "en", "en-US"], "en")
            chosen = "zh_Hans" if wanted.startswith("zh") else "en"
        g.locale = chosen
    return str(g.locale)


@lru_cache(maxsize=len(LOCALES))
def _catalogue(locale: str) -> Translations:
    """The catalogue of a locale, compiled from its .po once per process."""
    path = CATALOGUES / locale / "LC_MESSAGES" / "messages.po"
    if not path.exists():
        return Translations()
    compiled = BytesIO()
    with path.open("rb") as handle:
        write_mo(compiled, read_po(handle, locale=locale))
    compiled.seek(0)
    return Translations(compiled)


def gettext(message: str, locale: str | None = None) -> str:
    """The sentence in the language of this request (or of `locale`)."""
    return str(_catalogue(locale or current_locale()).gettext(message))


def local_time(value: datetime | None, style: str = "yyyy-MM-dd HH:mm:ss") -> str:
    """A time in the organisation's zone."""
    if value is None:
        return ""
    return str(format_datetime(value.astimezone(use(Settings).zone), style, locale=current_locale()))


def install_i18n(app: Flask) -> None:
    """Make `_()`, `locale` and `local_time` known to the templates."""
    app.jinja_env.add_extension("jinja2.ext.i18n")
    app.jinja_env.install_gettext_callables(  # type: ignore[attr-defined]
        gettext, lambda one, many, n: gettext(one if n == 1 else many), newstyle=True
    )
    app.jinja_env.filters["local_time"] = local_time
    app.context_processor(lambda: {"locale": current_locale()})
