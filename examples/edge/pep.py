"""Fetch the bundle, verify it, decide with it, and send what was decided back.

Needs `policies`, `requests` and `joserfc`; nothing of the server. What the bundle cannot tell (`ask_pdp`, an expired
bundle, a malformed question) is asked at the decision point; without an answer from there it is a no.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from examples.shared.pdp import Answer, Pdp, Question
from policies import Action
from policies.bundle import Bundle, BundleError, unpack

REFRESH_S = 20
BATCH_MAX = 500
# With so many decisions unsent nothing more is decided here: a decision of which nobody will hear is none.
UNSENT_MAX = 10_000
BUNDLE_MAX = 64 * 1_048_576
TIMEOUT_S = 5
UNSURE = {"ask_pdp", "bundle_expired", "request_invalid"}
UNREAD = {400, 413}

_log = logging.getLogger(__name__)


class _Large(jws.JWSRegistry):
    """Takes payloads as long as a bundle may be."""

    max_payload_length = BUNDLE_MAX


# Seconds on a clock that nobody sets, and on the wall's: the first may stop while the machine sleeps, the second may be
# set. Neither need be right, only one of them must run.
Clocks = tuple[float, float]


def clocks() -> Clocks:
    return time.monotonic(), time.time()


@dataclass(frozen=True)
class _Held:
    """A bundle with when it was asked for and when it came."""

    bundle: Bundle
    etag: str
    asked: Clocks
    came: Clocks

    def times(self, at: Clocks) -> tuple[datetime, datetime]:
        """The server's time: not earlier than the first, not later than the second."""
        least = max(0.0, min(now - then for now, then in zip(at, self.came, strict=True)))
        most = 1 + max(now - then for now, then in zip(at, self.asked, strict=True))
        return self.bundle.issued_at + timedelta(seconds=least), self.bundle.issued_at + timedelta(seconds=most)


class Edge:
    """One application's own decision point; every method may be called from any thread."""

    def __init__(
        self,
        tessera_url: str,
        code: str,
        secret: str,
        *,
        clock: Callable[[], Clocks] = clocks,
        unsent_max: int = UNSENT_MAX,
    ) -> None:
        self._url, self._code, self._clock = f"{tessera_url}/access/v1", code, clock
        self._issuer = tessera_url
        self._http = requests.Session()
        self._http.auth = (code, secret)
        self._pdp = Pdp(tessera_url, code, secret)
        self._keys: KeySet | None = None
        self._held: _Held | None = None
        self._unsent_max = unsent_max
        self._unsent: deque[tuple[str, str]] = deque()
        # Decisions (id, JSON) that the server does not take in any form: for the application to look at and clear.
        self.aside: list[tuple[str, str]] = []
        self._sending = threading.Lock()

    def ask(self, subject: str, question: Question, context: Mapping[str, Any] | None = None) -> Answer:
        """Decide here where the bundle can tell, else at the decision point. Whatever is not a clear yes is a no."""
        held, at = self._held, self._clock()
        if held is None or len(self._unsent) + len(self.aside) >= self._unsent_max:
            return self._pdp.ask(subject, question, context=context)
        said = dict(context or {})
        for now in held.times(at):  # a yes must be one whatever the time is exactly
            decision = held.bundle.decide(
                subject,
                Action(question.action),
                question.type,
                question.id,
                now,
                properties=question.properties,
                context=said,
            )
            if not decision.permit:
                break
        if decision.reason in UNSURE:
            return self._pdp.ask(subject, question, context=context)
        record = str(uuid.uuid4())
        told = {
            "id": record,
            "at": now.isoformat(),
            "subject": {"type": "user", "id": subject},
            "action": {"name": question.action},
            "resource": {"type": question.type, "id": question.id, "properties": dict(question.properties)},
            "context": said,
            "decision": decision.permit,
            "reason": decision.reason,
            "rules": list(decision.rules),
            "policy_version": decision.policy_version,
            "facts_revision": held.bundle.facts_revision,
        }
        try:
            self._unsent.append((record, json.dumps(told, allow_nan=False)))
        except (TypeError, ValueError) as error:
            _log.error("a question cannot be told to the server, so the answer is no: %s", error)
            return Answer(False, "request_invalid", "", "")
        return Answer(decision.permit, decision.reason, "", "", record=record, policy_version=decision.policy_version)

    def refresh(self) -> bool:
        """Ask for the bundle; whether what is held is confirmed. What is not confirmed runs out by itself."""
        held, started = self._held, self._clock()
        headers = {"If-None-Match": held.etag} if held else {}
        try:
            answer = self._http.get(f"{self._url}/bundle", headers=headers, timeout=TIMEOUT_S)
            if answer.status_code == 304 and held is not None:
                renewal = self._verified(answer.headers.get("Bundle-Renewal", ""), "bundle-renewal+jwt")
                self._held = replace(held, bundle=held.bundle.renewed(renewal), asked=started, came=self._clock())
                return True
            if answer.status_code == 200:
                came = self._clock()
                bundle = unpack(self._verified(answer.text, "bundle+jwt"))
                self._held = _Held(bundle, answer.headers.get("ETag", ""), started, came)
                return True
            _log.warning("no bundle: status %s", answer.status_code)
        except (requests.RequestException, JoseError, BundleError, ValueError) as error:
            _log.warning("no bundle: %s", error)
        return False

    def send(self) -> bool:
        """Send what was decided, oldest first; whether nothing is left. What fails is sent again under the same ids,
        so that the server keeps it once. One that the server cannot read is set aside, so that the others arrive."""
        most = BATCH_MAX
        with self._sending:
            while self._unsent:
                batch = [self._unsent[number] for number in range(min(len(self._unsent), most))]
                status = self._post(batch)
                if status in UNREAD and len(batch) > 1:
                    most = len(batch) // 2
                    continue
                if status in UNREAD:
                    _log.error("decision %s was set aside: the server does not read it (%s)", batch[0][0], status)
                    self.aside += batch
                elif status != 200:
                    return False
                for _ in batch:
                    self._unsent.popleft()
                most = min(2 * most, BATCH_MAX)
        return True

    def _post(self, batch: Sequence[tuple[str, str]]) -> int:
        """The status with which this batch was answered, 0 without an answer."""
        now = self._held.times(self._clock())[1] if self._held else datetime.now(UTC)
        body = f'{{"sent_at": "{now.isoformat()}", "decisions": [{", ".join(text for _, text in batch)}]}}'
        headers = {"Content-Type": "application/json"}
        try:
            answer = self._http.post(f"{self._url}/decisions", body, headers=headers, timeout=TIMEOUT_S)
            if answer.status_code != 200:
                _log.warning("decisions were not taken: status %s", answer.status_code)
                return answer.status_code
            for one in answer.json()["refused"]:
                _log.error("decision %s was refused: %s", one["id"], one["reason"])
        except (requests.RequestException, KeyError, TypeError, ValueError) as error:
            _log.warning("decisions were not taken: %s", error)
            return 0
        return 200

    def run(self, stop: threading.Event) -> None:
        """Keep the bundle true and send decisions each second, until `stop` is set; for a thread of its own."""
        due = 0.0
        while True:
            if time.monotonic() >= due:
                self.refresh()
                due = time.monotonic() + REFRESH_S
            self.send()
            if stop.wait(1):
                break
        self.send()

    def _verified(self, token: str, typ: str) -> dict[str, Any]:
        """The claims of a token that the server signed for this application; raises `JoseError` or `ValueError`."""
        kid = jws.extract_compact(token.encode(), registry=_Large()).headers().get("kid")
        if self._keys is None or not any(key.kid == kid for key in self._keys.keys):
            answer = self._http.get(f"{self._url}/bundle/jwks", timeout=TIMEOUT_S)
            self._keys = KeySet.import_key_set(answer.json())
        found = jws.deserialize_compact(token, self._keys, algorithms=["ES256"], registry=_Large(algorithms=["ES256"]))
        claims = json.loads(found.payload)
        if found.headers().get("typ") != typ or (claims["iss"], claims["aud"]) != (self._issuer, self._code):
            raise ValueError("the token is for something else")
        return dict(claims)
