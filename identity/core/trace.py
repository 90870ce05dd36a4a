"""W3C Trace Context: the id that joins what several systems wrote about one act.

It is anybody's word: it is checked for its form, written down and passed on, and never decides or names anything.
"""

from __future__ import annotations

import re
import secrets

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


def parse_traceparent(header: str) -> str:
    """`<trace id>-<flags>` of a `traceparent` header, an empty string when it is not valid (§3.2).

    Only the flag "sampled" is kept: it is the only one whose meaning is known.
    """
    found = _TRACEPARENT.fullmatch(header)
    if found is None:
        return ""
    version, trace_id, parent_id, flags, rest = found.groups()
    # §3.2.2: version ff is invalid, all zeros are invalid, and version 00 has four fields.
    if version == "ff" or (version == "00" and rest) or not int(trace_id, 16) or not int(parent_id, 16):
        return ""
    return f"{trace_id}-{int(flags, 16) & _SAMPLED:02x}"


def trace_headers(trace: str | None) -> dict[str, str]:
    """The header of a call of ours in this trace (§3.2.2.4: with a parent id of our own); empty without one."""
    if not trace:
        return {}
    trace_id, flags = trace.split("-")
    return {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-{flags}"}
