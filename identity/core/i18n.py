"""Languages: which one a request speaks, and the sentences in it.

Message ids are the English sentences; `identity/translations/<language>/LC_MESSAGES/messages.po` holds the others and
is read once, at the first use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

from babel.messages.pofile import read_po
from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header, parse_cookie

DEFAULT = "en"
LANGUAGES: Mapping[str, str] = {"en": "English", "zh_Hans": "简体中文"}
COOKIE = "lang"

_TRANSLATIONS = Path(__file__).parents[1] / "translations"
_language: ContextVar[str] = ContextVar("language", default=DEFAULT)


def language() -> str:
    """The language of the current request: a key of `LANGUAGES`."""
    return _language.get()


@contextmanager
def speaking(code: str) -> Iterator[None]:
    """Inside, everything is said in this language."""
    token = _language.set(code if code in LANGUAGES else DEFAULT)
    try:
        yield
    finally:
        _language.reset(token)


def choose(cookie: str, accept_language: str) -> str:
    """The language of a browser: what its user chose, else the first of its own that we speak (RFC 9110 §12.5.4)."""
    if cookie in LANGUAGES:
        return cookie
    for tag, quality in parse_accept_header(accept_language[:256], LanguageAccept):
        primary = str(tag).partition("-")[0].lower()
        if quality > 0 and primary in {"zh", "en"}:
            return "zh_Hans" if primary == "zh" else "en"
    return DEFAULT


def gettext(message: str) -> str:
    """The sentence in the request's language; the English one where it is not translated."""
    return _catalogue(language())[0].get(message, message)


def gettext_noop(message: str) -> str:
    """The sentence itself; marks one that is said later for the catalogue."""
    return message


def ngettext(one: str, many: str, n: int) -> str:
    """The sentence for this number of things."""
    known = _catalogue(language())[1].get(one)
    if known is not None:
        return known[0]
    return one if n == 1 else many


def is_known(message: str) -> bool:
    """Whether the request's language has this sentence."""
    return language() == DEFAULT or message in _catalogue(language())[0]


def install_i18n(app: Any) -> None:
    """Give templates `_()` and `ngettext()`, and let each request speak its browser's language.

    `app` is the Flask application; it is wrapped at its WSGI side, so that error pages have a language, too.
    """
    app.jinja_env.add_extension("jinja2.ext.i18n")
    app.jinja_env.install_gettext_callables(gettext, ngettext, newstyle=True)
    app.wsgi_app = _Speaker(app.wsgi_app)
    for code in LANGUAGES:
        _catalogue(code)


class _Speaker:
    """Sets the language before the application is called."""

    def __init__(self, inner: Callable[..., Iterable[bytes]]) -> None:
        self._inner = inner

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        cookie = parse_cookie(environ).get(COOKIE, "")
        # The answer is whole when this returns (pages are not streamed), and the thread is as it was.
        with speaking(choose(cookie, str(environ.get("HTTP_ACCEPT_LANGUAGE", "")))):
            return self._inner(environ, start_response)


@cache
def _catalogue(code: str) -> tuple[Mapping[str, str], Mapping[str, tuple[str, ...]]]:
    """The language's sentences, and those that depend on a number (by their singular)."""
    path = _TRANSLATIONS / code / "LC_MESSAGES" / "messages.po"
    if code == DEFAULT or not path.is_file():
        return {}, {}
    with path.open("rb") as file:
        messages = list(read_po(file, locale=code, abort_invalid=True))
    single: dict[str, str] = {}
    plural: dict[str, tuple[str, ...]] = {}
    for message in messages:
        if not message.id or message.fuzzy:
            continue
        if isinstance(message.id, str):
            if message.string:
                single[message.id] = str(message.string)
        elif isinstance(message.string, tuple | list) and all(message.string):
            plural[message.id[0]] = tuple(message.string)
    return single, plural
