"""Sentences that a sync run stored in English, in the reader's language."""

from __future__ import annotations

import re

from identity.core.i18n import gettext
from identity.core.i18n import gettext_noop as _

# Sentences that a run stores with its plan; the values in them are the directory's.
_STORED: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(_pattern), _sentence)
    for _pattern, _sentence in (
        (r"new in the directory", _("new in the directory")),
        (r"members changed in the directory", _("members changed in the directory")),
        (r"no longer in the directory", _("no longer in the directory")),
        (r"back in the directory", _("back in the directory")),
        (r"missing since (?P<day>[-0-9]+)", _("missing since %(day)s")),
        (
            r"would delete (?P<n>\d+) of (?P<all>\d+) accounts; (?P<most>\d+) are allowed at once",
            _("would delete %(n)s of %(all)s accounts; %(most)s are allowed at once"),
        ),
        (r"disabled in the directory", _("disabled in the directory")),
        (r"active in the directory", _("active in the directory")),
        (r"changed in the directory: (?P<fields>.+)", _("changed in the directory: %(fields)s")),
        (r"has no (?P<attribute>\S+)", _("has no %(attribute)s")),
        (
            r"the login (?P<login>.+) belongs to somebody outside this directory",
            _("the login %(login)s belongs to somebody outside this directory"),
        ),
        (r"the login (?P<login>.+) stands twice", _("the login %(login)s stands twice")),
        (
            r"the employee number (?P<number>\S+) stands twice in (?P<company>.+)",
            _("the employee number %(number)s stands twice in %(company)s"),
        ),
        (
            r"the employee number (?P<number>\S+) belongs to (?P<login>\S+)",
            _("the employee number %(number)s belongs to %(login)s"),
        ),
        (
            (
                r"the employee number (?P<number>\S+) belongs to (?P<login>\S+) who has left: "
                r"a rehire is a person's decision"
            ),
            _("the employee number %(number)s belongs to %(login)s who has left: a rehire is a person’s decision"),
        ),
        (
            r"the employee number (?P<number>\S+) belongs to (?P<login>\S+); nothing else proves it",
            _("the employee number %(number)s belongs to %(login)s; nothing else proves it"),
        ),
        (r"another group has the name (?P<name>.+)", _("another group has the name %(name)s")),
        (r"another unit has the code (?P<code>.+)", _("another unit has the code %(code)s")),
        (r"is (?P<login>\S+) of another source", _("is %(login)s of another source")),
        (r"linked by a person's decision", _("linked by a person’s decision")),
        (r"undone", _("taken back")),
        (r"The same plan is held already\.", _("The same plan is held already.")),
        (
            r"would clear a field of (?P<n>\d+) of (?P<all>\d+) accounts; (?P<most>\d+) are allowed at once",
            _("would clear a field of %(n)s of %(all)s accounts; %(most)s are allowed at once"),
        ),
        (
            r"would take (?P<n>\d+) of (?P<all>\d+) accounts out of groups; (?P<most>\d+) are allowed at once",
            _("would take %(n)s of %(all)s accounts out of groups; %(most)s are allowed at once"),
        ),
        (
            r"would remove (?P<n>\d+) of (?P<all>\d+) groups; (?P<most>\d+) are allowed at once",
            _("would remove %(n)s of %(all)s groups; %(most)s are allowed at once"),
        ),
        (
            r"would abolish (?P<n>\d+) of (?P<all>\d+) departments; (?P<most>\d+) are allowed at once",
            _("would abolish %(n)s of %(all)s departments; %(most)s are allowed at once"),
        ),
        (
            r"would disable (?P<n>\d+) of (?P<all>\d+) active accounts; (?P<most>\d+) are allowed at once",
            _("would disable %(n)s of %(all)s active accounts; %(most)s are allowed at once"),
        ),
    )
)


def stored(text: str | None) -> str:
    """What was stored in English, a sentence a line, in the reader's language where we know it."""
    return "; ".join(_stored(line) for line in (text or "").splitlines())


def _stored(line: str) -> str:
    for pattern, sentence in _STORED:
        found = pattern.fullmatch(line)
        if found:
            return gettext(sentence) % found.groupdict()
    return gettext(line)
