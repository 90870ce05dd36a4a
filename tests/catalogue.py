"""What people read, collected from code and templates, against the Chinese catalogue.

`python -m tests.catalogue` adds what is missing to the catalogue, with an empty translation, and drops what is stale.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from pathlib import Path

from babel.messages import Catalog
from babel.messages.extract import extract
from babel.messages.pofile import read_po, write_po
from jinja2.ext import babel_extract

from identity.access.console import CONSOLE_ROLES
from identity.audit.kinds import SENTENCES

ROOT = Path(__file__).resolve().parents[1]
CATALOGUE = ROOT / "identity" / "translations" / "zh_Hans" / "LC_MESSAGES" / "messages.po"
KEYWORDS = ("_", "gettext", "ngettext", "gettext_noop")
PYTHON = {"_": None, "gettext": None, "gettext_noop": None, "ngettext": (1, 2)}
ERRORS = frozenset({"Invalid", "NotFound", "Conflict", "Refused", "Stale", "Unavailable"})
# Doors, tools and processes without pages: their errors go to programs and to the command line, in English.
WIRE = (
    "authzen/",
    "api/",
    "scim/",
    "configuration/",
    "audit/",
    "cli.py",
    "events/",
    "shipping/",
    "core/hot.py",
    "core/xml.py",
    "core/jose.py",
    "oauth/hot",
    "oauth/token",
)

HEADER = r"""# What people read, in Simplified Chinese. Words: docs/glossary.md. Kept by `python -m tests.catalogue`.
msgid ""
msgstr ""
"Language: zh_Hans\n"
"Content-Type: text/plain; charset=utf-8\n"
"Plural-Forms: nplurals=1; plural=0;\n"

"""

Message = str | tuple[str, str]


@cache
def messages() -> set[Message]:
    """Every message id: marked sentences, sentences of the audit, and what errors say to people."""
    found: set[Message] = set(SENTENCES.values()) | set(CONSOLE_ROLES.values())
    for path in sorted((ROOT / "identity").rglob("*.html")):
        texts = (text for _, _, text, _ in babel_extract(BytesIO(path.read_bytes()), KEYWORDS, (), _JINJA))
        found |= {_id(text) for text in texts if text is not None}
    for path in sorted((ROOT / "identity").rglob("*.py")):
        found |= {text for _, text, _, _ in extract("python", BytesIO(path.read_bytes()), PYTHON)}
        name = path.relative_to(ROOT / "identity").as_posix()
        if name == "audit/recorder.py" or not any(part in name for part in WIRE):
            found |= set(said_by_errors(path))
    return found


_JINJA = {"trimmed": "false", "silent": "false", "newstyle_gettext": "true", "encoding": "utf-8"}


def said_by_errors(path: Path) -> Iterator[str]:
    """The public texts of expected failures; those made of values cannot be in a catalogue."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS and node.args:
            text = node.args[0]
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield text.value


def catalogue() -> Catalog:
    with CATALOGUE.open("rb") as file:
        return read_po(file, locale="zh_Hans", abort_invalid=True)


def _id(text: object) -> Message:
    if not isinstance(text, tuple):
        return str(text)
    return str(text[0]) if text[1] is None else (str(text[0]), str(text[1]))


def update() -> None:
    known = catalogue() if CATALOGUE.is_file() else Catalog(locale="zh_Hans")
    made = Catalog(locale="zh_Hans", fuzzy=False)
    for message in sorted(messages(), key=str):
        old = known.get(message if isinstance(message, str) else message[0])
        made.add(message, old.string if old else "")
    CATALOGUE.parent.mkdir(parents=True, exist_ok=True)
    with CATALOGUE.open("wb") as file:
        file.write(HEADER.encode())
        write_po(file, made, width=120, sort_output=True, omit_header=True, no_location=True)


if __name__ == "__main__":
    update()
