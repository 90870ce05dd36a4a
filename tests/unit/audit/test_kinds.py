"""Every kind declares its payload and reads as a sentence in both languages."""

from __future__ import annotations

import re
import string
from typing import Any, is_typeddict

import pytest

from identity.audit.kinds import CLASSES, SENTENCES, Kind, class_of
from identity.audit.payloads import payload_of
from identity.audit.sentence import sentence
from identity.core.i18n import speaking
from tests.payloads import misfits

WORDS = {"actor", "person", "application", "action", "object", "resource", "login", "group"}
CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.mark.parametrize("kind", Kind)
def test_a_kind_declares_what_its_records_hold(kind: Kind) -> None:
    assert is_typeddict(payload_of(kind)), f"declare the payload of {kind.value} in identity/audit/payloads.py"
    assert re.fullmatch(r"[a-z_]+\.[a-z_]+\.[a-z_]+", kind.value)
    assert class_of(kind) in CLASSES


@pytest.mark.parametrize("kind", Kind)
def test_a_kind_reads_as_a_sentence_in_both_languages(kind: Kind) -> None:
    named = {name for _, name, _, _ in string.Formatter().parse(SENTENCES[kind]) if name is not None}
    assert named <= WORDS
    body: dict[str, Any] = {"kind": kind.value, "actor": {"name": "Zhang"}, "person": "Li", "application": "expense"}
    body |= {"action": "read", "resource_type": "role", "resource_id": "r", "data": {"login": "wang", "group": "staff"}}
    with speaking("en"):
        english = sentence(body)
    with speaking("zh_Hans"):
        chinese = sentence(body)
    assert not CHINESE.search(english)
    assert CHINESE.search(chinese)
    for text in (english, chinese):
        assert "{" not in text
        assert "somebody" not in text
    for name, value in (("actor", "Zhang"), ("person", "Li"), ("login", "wang"), ("group", "staff")):
        assert (value in english) is (value in chinese) is (name in named)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ({"permitted": 1, "denied": 0, "items": [], "more": 1}, "more is not declared"),
        ({"permitted": 1, "denied": 0}, "items is missing"),
        ({"permitted": "1", "denied": 0, "items": []}, "permitted is '1'"),
        ({"permitted": True, "denied": 0, "items": []}, "permitted is True"),
        ({"permitted": 1, "denied": 0, "items": {}}, "items is {}"),
        ({"permitted": 1, "denied": 0, "items": [{"user": 5}]}, "user is 5"),
        ([], "is no object"),
    ],
)
def test_what_is_not_as_declared_is_found(data: Any, fault: str) -> None:
    assert any(fault in one for one in misfits([{"kind": Kind.DECISIONS_MADE, "data": data}]))


def test_what_is_as_declared_passes() -> None:
    body = {"kind": Kind.DECISIONS_MADE, "data": {"permitted": 1, "denied": 0, "items": []}}
    assert misfits([body, {"kind": Kind.ROLE_CREATED}]) == []
