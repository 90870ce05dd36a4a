"""Nothing that people read is left in English for those who read Chinese, and words are those of the glossary."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from identity.audit.kinds import SENTENCES, Kind
from identity.console import words
from identity.console.stored import stored
from identity.core import i18n
from tests import catalogue

ROOT = Path(__file__).resolve().parents[2]
PLACEHOLDER = re.compile(r"%\(\w+\)s|\{\w+\}")
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def translations() -> dict[catalogue.Message, str]:
    found: dict[catalogue.Message, str] = {}
    for one in catalogue.catalogue():
        if isinstance(one.id, str):
            if one.id:
                found[one.id] = str(one.string)
        elif one.id:
            found[one.id[0], one.id[1]] = str(one.string[0])
    return found


def test_every_sentence_has_a_translation_and_none_is_stale() -> None:
    wanted, known = catalogue.messages(), translations()
    help_text = "; run `python -m tests.catalogue` and translate what it adds"
    assert sorted(map(str, wanted - known.keys())) == [], help_text
    assert sorted(map(str, known.keys() - wanted)) == [], help_text
    assert [text for text, chinese in known.items() if not chinese] == [], "no translation"


def test_translations_are_chinese_and_keep_their_placeholders() -> None:
    for message, chinese in translations().items():
        for english in message if isinstance(message, tuple) else (message,):
            assert sorted(PLACEHOLDER.findall(english)) == sorted(PLACEHOLDER.findall(chinese)), english
            assert CHINESE.search(PLACEHOLDER.sub("", chinese)), english
            assert english.endswith(".") == chinese.endswith("。"), english


def test_words_are_those_of_the_glossary() -> None:
    rows = re.findall(
        r"^\| ([a-z].*?) \| (.*?) \|", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(rows) > 25
    known = translations()
    for english, chinese in rows:
        used = [
            (message, text)
            for message, text in known.items()
            if re.search(rf"\b{english}s?\b", str(message), re.IGNORECASE)
        ]
        assert used, f"{english} is on no page"
        agreeing = [text for _, text in used if chinese in text]
        assert len(agreeing) >= len(used) / 2, (english, [one for one in used if chinese not in one[1]])


def test_every_kind_of_record_has_a_sentence_in_both_languages() -> None:
    assert set(SENTENCES) == set(Kind)
    for code in i18n.LANGUAGES:
        with i18n.speaking(code):
            for kind in Kind:
                text = words.kind(kind)
                assert text
                assert "{" not in text


def test_every_reason_code_reads_as_a_sentence() -> None:
    missing = recorded_reasons() - words.REASONS.keys()
    assert sorted(missing) == []
    for code in i18n.LANGUAGES:
        with i18n.speaking(code):
            for reason in words.REASONS:
                assert words.reason(reason)[-1] in ".。”"


def recorded_reasons() -> set[str]:
    """Constants that become the reason of a record: of decisions, refusals and ends of sessions."""
    found: set[str] = set()
    for path in [*(ROOT / "identity").rglob("*.py"), *(ROOT / "policies").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            values: list[ast.expr] = []
            if name in {"Record", "GrantError"}:
                values = [one.value for one in node.keywords if one.arg in {"reason", "code"}]
            elif name in {"denied", "Refuse", "Refusal"}:
                values = list(node.args[:1])
            elif name in {"end_session", "end_sessions_of_user"}:
                values = list(node.args[2:3])
            found |= {one.value for one in values if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return found - {""}


@pytest.mark.parametrize(
    ("cookie", "header", "language"),
    [
        ("", "zh-CN,zh;q=0.9,en;q=0.8", "zh_Hans"),
        ("", "en-GB,zh;q=0.5", "en"),
        ("", "de-DE", "en"),
        ("zh_Hans", "en", "zh_Hans"),
        ("klingon", "zh-TW", "zh_Hans"),
    ],
)
def test_the_browser_chooses_the_language_unless_the_person_did(cookie: str, header: str, language: str) -> None:
    assert i18n.choose(cookie, header) == language


def test_sentences_that_a_run_stored_are_said_in_chinese() -> None:
    with i18n.speaking("zh_Hans"):
        assert stored("changed in the directory: mail") == "目录中已变更：mail"
        disable = "would disable 12 of 30 active accounts; 5 are allowed at once"
        left = "would take 9 of 30 accounts out of groups; 5 are allowed at once"
        assert stored(disable).startswith("将停用 30 个")
        assert stored(f"{disable}\n{left}") == f"{stored(disable)}; {stored(left)}"
        assert stored(left).startswith("将把 30 个")
        assert stored("something new") == "something new"
