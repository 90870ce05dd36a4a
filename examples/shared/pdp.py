"""Asking the decision point (OpenID AuthZEN 1.0). Whatever is not a clear yes is a no."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests

TIMEOUT_S = 5


@dataclass(frozen=True)
class Answer:
    """What the decision point said. `available` is False when it did not decide: then `permit` is False too."""

    permit: bool
    reason: str
    zh: str
    en: str
    available: bool = True
    record: str = ""
    policy_version: int = 0


UNAVAILABLE = Answer(
    False,
    "unavailable",
    "决策服务暂时不可用,操作未执行。",
    "The decision point did not answer; nothing was done.",
    available=False,
)


@dataclass(frozen=True)
class Question:
    """May the subject do `action` on this resource?"""

    action: str
    type: str
    id: str
    properties: Mapping[str, Any]


class Pdp:
    """The decision point, as one application calls it: by its own code and secret."""

    def __init__(self, tessera_url: str, code: str, secret: str) -> None:
        self._url = f"{tessera_url}/access/v1"
        self._http = requests.Session()
        self._http.auth = (code, secret)

    def ask(
        self, subject: str, question: Question, *, sid: str = "", context: Mapping[str, Any] | None = None
    ) -> Answer:
        """Would it be allowed? Good for drawing a button; never counts as an act."""
        return self._evaluate(subject, question, "ask", sid, context)

    def perform(self, subject: str, question: Question, *, sid: str = "") -> Answer:
        """It is about to be done: a yes is remembered as this person's act on this object."""
        return self._evaluate(subject, question, "perform", sid)

    def ask_all(self, subject: str, questions: Sequence[Question], *, sid: str = "") -> list[Answer]:
        """Many questions in one call, answers in their order."""
        if not questions:
            return []
        body = {
            "subject": {"type": "user", "id": subject},
            "context": _context("ask", sid),
            "evaluations": [_item(one) for one in questions],
        }
        answers = self._post("evaluations", body).get("evaluations")
        if not isinstance(answers, list) or len(answers) != len(questions):
            return [UNAVAILABLE] * len(questions)
        return [_answer(one) for one in answers]

    def _evaluate(
        self, subject: str, question: Question, intent: str, sid: str, context: Mapping[str, Any] | None = None
    ) -> Answer:
        body = {"subject": {"type": "user", "id": subject}, "context": {**(context or {}), **_context(intent, sid)}}
        return _answer(self._post("evaluation", body | _item(question)))

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            response = self._http.post(f"{self._url}/{path}", json=body, timeout=TIMEOUT_S)
            data = response.json() if response.status_code == 200 else {}
        except (requests.RequestException, ValueError):
            return {}
        return data if isinstance(data, dict) else {}


def _context(intent: str, sid: str) -> dict[str, str]:
    return {"intent": intent, "sid": sid} if sid else {"intent": intent}


def _item(question: Question) -> dict[str, Any]:
    return {
        "action": {"name": question.action},
        "resource": {"type": question.type, "id": question.id, "properties": dict(question.properties)},
    }


def _answer(data: Any) -> Answer:
    """Only a boolean `decision` is an answer. An obligation that we do not know forbids what it came with."""
    decision = data.get("decision") if isinstance(data, dict) else None
    if not isinstance(decision, bool):
        return UNAVAILABLE
    context = data.get("context") or {}
    sentences = context.get("reason_user") or {}
    if decision and context.get("obligations"):
        return Answer(False, "obligation_unknown", "附带的义务无法履行。", "It came with an unknown obligation.")
    return Answer(
        permit=decision,
        reason=str(context.get("reason", "")),
        zh=str(sentences.get("zh", "")),
        en=str(sentences.get("en", "")),
        record=str(context.get("id", "")),
        policy_version=int(context.get("policy_version", 0)),
    )
