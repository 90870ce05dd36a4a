"""Sentences that a sync run stored in English, in the reader's language."""

from __future__ import annotations

import re

from identity.console.words import label
from identity.core.i18n import gettext
from identity.core.i18n import gettext_noop as _

# What a run stores with its plan; the values in it are the directory's.
_SENTENCES = (
    _("new in the directory"),
    _("members changed in the directory"),
    _("no longer in the directory"),
    _("back in the directory"),
    _("missing since %(day)s"),
    _("would delete %(n)s of %(all)s accounts; %(most)s are allowed at once"),
    _("disabled in the directory"),
    _("active in the directory"),
    _("active in the directory, but disabled or deleted here by a person"),
    _("changed in the directory: %(fields)s"),
    _("has no %(attribute)s"),
    _("the login %(login)s belongs to somebody outside this directory"),
    _("the login %(login)s stands twice"),
    _("the employee number %(number)s stands twice in %(company)s"),
    _("the employee number %(number)s belongs to %(login)s"),
    _("the employee number %(number)s belongs to %(login)s who has left: a rehire is a person’s decision"),
    _("the employee number %(number)s belongs to %(login)s; nothing else proves it"),
    _("another group has the name %(name)s"),
    _("another unit has the code %(code)s"),
    _("is %(login)s of another source"),
    _("linked by a person’s decision"),
    _("The same plan is held already."),
    _("would clear a field of %(n)s of %(all)s accounts; %(most)s are allowed at once"),
    _("would take %(n)s of %(all)s accounts out of groups; %(most)s are allowed at once"),
    _("would remove %(n)s of %(all)s groups; %(most)s are allowed at once"),
    _("would abolish %(n)s of %(all)s departments; %(most)s are allowed at once"),
    _("would disable %(n)s of %(all)s active accounts; %(most)s are allowed at once"),
)


def _pattern(sentence: str) -> re.Pattern[str]:
    """What such a sentence looks like with its values, as it is stored."""
    parts = re.split(r"%\((\w+)\)s", sentence.replace("’", "'"))
    return re.compile("".join(f"(?P<{one}>.+)" if n % 2 else re.escape(one) for n, one in enumerate(parts)))


# That with most words first: one sentence may be the beginning of another.
_STORED = tuple((_pattern(one), one) for one in sorted(_SENTENCES, key=len, reverse=True))


def stored(text: str | None) -> str:
    """What was stored in English, a sentence a line, in the reader's language where we know it."""
    return "; ".join(_stored(line) for line in (text or "").splitlines())


def _stored(line: str) -> str:
    for pattern, sentence in _STORED:
        found = pattern.fullmatch(line)
        if found:
            return gettext(sentence) % found.groupdict()
    return label(line)
