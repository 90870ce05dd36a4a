"""The beginnings of many records at once are those of each."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from identity.audit.encode import LEAD, lead, leads
from identity.audit.note import stamp
from identity.core.db import to_micros

TIMES = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2026, 11, 26, 1, 2, 3, 45, tzinfo=UTC),
    datetime(2026, 11, 26, 1, 2, 3, 100_000, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
]
IDS = [UUID(int=n * 0x0123456789ABCDEF0123456789ABCDEF % 2**128) for n in range(len(TIMES))]


def test_the_leads_of_many_are_those_of_each() -> None:
    each = [lead(one, stamp(at)) for one, at in zip(IDS, TIMES, strict=True)]
    assert {len(one) for one in each} == {LEAD}
    assert leads([one.bytes for one in IDS], [to_micros(at) for at in TIMES]) == b"".join(each)
    assert leads([], []) == b""


@pytest.mark.parametrize(
    ("ids", "times"),
    [
        ([b"short"], [0]),
        ([bytes(15), bytes(17)], [0, 0]),
        ([bytes(16)], [to_micros(TIMES[-1]) + 1]),
        ([bytes(16)], [2**63 - 1]),
        ([bytes(16)], [-(2**63)]),
    ],
)
def test_what_no_record_has_has_no_lead(ids: list[bytes], times: list[int]) -> None:
    with pytest.raises((ValueError, OverflowError, OSError)):
        leads(ids, times)
