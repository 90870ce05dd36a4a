"""traceparent (W3C Trace Context §3.2) in every wrong form, and what goes on."""

from __future__ import annotations

import re

import pytest

from identity.core.trace import parse_traceparent, trace_headers

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (f"00-{TRACE}-{PARENT}-01", f"{TRACE}-01"),
        (f"00-{TRACE}-{PARENT}-00", f"{TRACE}-00"),
        (f"00-{TRACE}-{PARENT}-ff", f"{TRACE}-01"),
        (f"01-{TRACE}-{PARENT}-01-what-comes-later", f"{TRACE}-01"),
        (f"00-{TRACE}-{PARENT}-01-more", ""),
        (f"ff-{TRACE}-{PARENT}-01", ""),
        (f"00-{'0' * 32}-{PARENT}-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"00-{TRACE.upper()}-{PARENT}-01", ""),
        (f"00-{TRACE}-{PARENT}-01,00-{TRACE}-{PARENT}-01", ""),
        (f"00-{TRACE}-{PARENT}", ""),
        (f"00-{TRACE}-{PARENT}-01\n", ""),
        (f"00-{TRACE[:-1]}٣-{PARENT}-01", ""),
        ("x" * 100_000, ""),
        ("", ""),
    ],
)
def test_only_a_valid_traceparent_counts(header: str, wanted: str) -> None:
    assert parse_traceparent(header) == wanted


def test_a_call_of_ours_goes_on_in_the_trace_under_an_id_of_its_own() -> None:
    made = {trace_headers(f"{TRACE}-01")["traceparent"] for _ in range(3)}
    assert len(made) == 3
    assert all(re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-01", one) for one in made)
    assert parse_traceparent(made.pop()) == f"{TRACE}-01"
    assert trace_headers(None) == trace_headers("") == {}
