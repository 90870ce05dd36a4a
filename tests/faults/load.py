"""Clients that ask without pause and remember every answer; each request carries an id that its records carry too."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import orjson

from tests.faults.site import PEOPLE, SECURITY_ADMIN, Site, wait_for
from tests.world import API, CALLBACK, PASSWORD

VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
# What an acknowledged request of a kind must have left, once.
LEAVES = {
    "decide": "access.decision.made",
    "buffered": "access.decision.made",
    "act": "access.decision.made",
    "token": "oauth.token.issued",
    "code": "oauth.code.issued",
    "redeem": "oauth.token.issued",
    "refuse": "access.caller.refused",
    "role": "roles.assignment.added",
}
REFUSALS = frozenset({"refuse"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What one client was told. `status` None: the connection broke, so it knows nothing; `ok`: the server says that
    it was done; `proof` names what the client holds (a record's id, a token's jti, a code)."""

    kind: str
    id: str
    status: int | None
    ok: bool = False
    proof: str = ""
    fault: str = ""


class Client:
    """One person and one application in front of the server, on one thread."""

    def __init__(self, site: Site, number: int) -> None:
        self._site = site
        self._name = f"c{number}"
        self._numbers = itertools.count()
        self._login = PEOPLE[number % len(PEOPLE)]
        self.answers: list[Answer] = []
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{site.port}",
            headers=dict(site.host),
            timeout=30,
            verify=False,  # it is plain http; loading authorities takes time
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self._sessions: dict[str, httpx.Cookies] = {}

    def close(self) -> None:
        self._http.close()

    def do(self, kind: str) -> Answer:
        """One request of this kind (a key of `LEAVES`); its answer is kept."""
        act: Callable[[str], Answer] = getattr(self, f"_{kind}")
        one = f"{self._name}-{next(self._numbers)}-{kind}"
        try:
            answer = act(one)
        except httpx.TransportError as error:
            answer = Answer(kind, one, None, fault=repr(error))
        self.answers.append(answer)
        return answer

    def _evaluate(self, kind: str, one: str, app: str, action: str, resource: str, **context: str) -> Answer:
        body = {
            "subject": {"type": "user", "id": self._site.subs[self._login]},
            "action": {"name": action},
            "resource": {"type": resource, "id": one},
            "context": context,
        }
        auth = (app, self._site.secret)
        got = self._http.post("/access/v1/evaluation", json=body, auth=auth, headers={"X-Request-ID": one})
        if got.status_code == 200:
            permitted = got.json()["decision"]
            fault = "" if permitted is True else "denied"
            return Answer(kind, one, 200, ok=True, proof=got.json()["context"]["id"], fault=fault)
        return self._not_done(kind, one, got)

    def _decide(self, one: str) -> Answer:
        return self._evaluate("decide", one, "expense", "read", "claim")

    def _buffered(self, one: str) -> Answer:
        return self._evaluate("buffered", one, "fast", "read", "page")

    def _act(self, one: str) -> Answer:
        return self._evaluate("act", one, "expense", "submit", "claim", intent="perform")

    def _refuse(self, one: str) -> Answer:
        got = self._http.post(
            "/access/v1/evaluation", json={}, auth=("expense", "wrong"), headers={"X-Request-ID": one}
        )
        return Answer("refuse", one, 401, ok=True) if got.status_code == 401 else self._not_done("refuse", one, got)

    def _token(self, one: str) -> Answer:
        form = {"grant_type": "client_credentials", "scope": "vouchers", "resource": API}
        return self._tokens("token", one, form)

    def _tokens(self, kind: str, one: str, form: dict[str, str]) -> Answer:
        auth = ("expense", self._site.secret)
        got = self._http.post("/oauth/token", data=form, auth=auth, headers={"X-Request-ID": one})
        if got.status_code == 200:
            return Answer(kind, one, 200, ok=True, proof=jti(got.json()["access_token"]))
        return self._not_done(kind, one, got)

    def _code(self, one: str) -> Answer:
        """Ask for a code in the browser; the code is a credential by itself."""
        query = {
            "client_id": "expense",
            "response_type": "code",
            "redirect_uri": CALLBACK,
            "scope": "openid roles",
            "state": "s",
            "nonce": "n",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        got = self._browse(self._login, "GET", f"/oauth/authorize?{urlencode(query)}", one)
        place = got.headers.get("Location", "")
        if got.status_code in {302, 303} and place.startswith(CALLBACK):
            back = parse_qs(urlsplit(place).query)
            if "code" in back:
                return Answer("code", one, got.status_code, ok=True, proof=back["code"][0])
            if back.get("error") == ["temporarily_unavailable"]:
                return Answer("code", one, 503)
        return self._not_done("code", one, got)

    def _redeem(self, one: str) -> Answer:
        """Get a code, then redeem it: what counts here is the redemption."""
        asked = self._code(f"{one}-code")
        self.answers.append(asked)
        if not asked.ok:
            return Answer("redeem", one, asked.status)
        return self.redeem(one, asked.proof)

    def token(self) -> str:
        """An access token of the application."""
        form = {"grant_type": "client_credentials", "scope": "vouchers", "resource": API}
        got = self._http.post("/oauth/token", data=form, auth=("expense", self._site.secret))
        return str(got.raise_for_status().json()["access_token"])

    def revoke(self, token: str) -> None:
        """Revoke it; raises unless the server says that it did."""
        auth = ("expense", self._site.secret)
        self._http.post("/oauth/revoke", data={"token": token}, auth=auth).raise_for_status()

    def is_active(self, token: str) -> bool:
        """What introspection says."""
        auth = ("expense", self._site.secret)
        got = self._http.post("/oauth/introspect", data={"token": token}, auth=auth)
        return bool(got.raise_for_status().json()["active"])

    def redeem(self, one: str, code: str) -> Answer:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
        }
        return self._tokens("redeem", one, form)

    def _role(self, one: str) -> Answer:
        """Assign a role in the console, for a reason."""
        form = {"login": self._login, "role": "expense:approver", "limit": "", "reason": f"because of {one}"}
        got = self._browse(SECURITY_ADMIN, "POST", "/admin/assignments", one, form)
        if got.status_code == 303 and urlsplit(got.headers["Location"]).path == "/admin/assignments":
            return Answer("role", one, 303, ok=True)
        return self._not_done("role", one, got)

    def _browse(
        self, login: str, method: str, path: str, one: str, form: dict[str, str] | None = None
    ) -> httpx.Response:
        """A request in this person's browser, through our own redirects; signed in where need be."""
        if login not in self._sessions:
            self._http.cookies = httpx.Cookies()
            self._sign_in(login, "/admin" if login == SECURITY_ADMIN else "/")
            self._sessions[login] = self._http.cookies
        self._http.cookies = self._sessions[login]
        if form is not None:
            form = {**form, "csrf_token": self._field("csrf_token", self._http.get("/logout"))}
        got = self._follow(self._http.request(method, path, data=form, headers={"X-Request-ID": one}), one)
        if got.status_code == 200 and "/login" in str(got.url):
            del self._sessions[login]  # too old for this
        return got

    def _sign_in(self, login: str, start: str) -> None:
        page = self._follow(self._http.get(start))
        form = {name: self._field(name, page) for name in ("csrf_token", "tx")}
        done = self._follow(self._http.post("/login", data={**form, "login": login, "password": PASSWORD}))
        if done.status_code != 200 or 'name="password"' in done.text:
            raise httpx.ReadError(f"{login} could not sign in: {done.status_code}")

    def _follow(self, got: httpx.Response, one: str = "sign-in") -> httpx.Response:
        while got.status_code in {302, 303} and got.headers["Location"].startswith("/"):
            if got.headers["Location"] == "/admin/assignments" and got.request.method == "POST":
                break  # that is the answer
            got = self._http.get(got.headers["Location"], headers={"X-Request-ID": one})
        return got

    def _field(self, name: str, page: httpx.Response) -> str:
        found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
        if found is None:
            raise httpx.ReadError(f"no {name}: {page.status_code}")
        return unescape(found[1])

    def _not_done(self, kind: str, one: str, got: httpx.Response) -> Answer:
        """It was not done, and the answer must say so in the right way: 503, and when to come again."""
        fault = ""
        if got.status_code != 503 or "Retry-After" not in got.headers:
            fault = f"{got.status_code} {got.url} {got.text[:300]}"
        elif "decision" in got.text or "access_token" in got.text:
            fault = f"an answer in a 503: {got.text[:300]}"
        return Answer(kind, one, got.status_code, fault=fault)


def jti(token: str) -> str:
    """The id in a JWT."""
    body = token.split(".")[1]
    return str(orjson.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["jti"])


class Load:
    """Threads of clients, each doing these kinds of requests by turns until told to stop."""

    def __init__(self, site: Site, kinds: Sequence[str], threads: int = 6) -> None:
        self.clients = [Client(site, number) for number in range(threads)]
        self._kinds = kinds
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(client, number)) for number, client in enumerate(self.clients)
        ]

    def _run(self, client: Client, number: int) -> None:
        for kind in itertools.islice(itertools.cycle(self._kinds), number, None):
            if self._over.is_set():
                return
            if client.do(kind).status is None:
                self._over.wait(0.05)  # nobody listens at the moment

    @property
    def answers(self) -> list[Answer]:
        return [answer for client in self.clients for answer in list(client.answers)]

    def acknowledged(self) -> int:
        return sum(answer.ok for answer in self.answers)

    def progress(self, more: int = 1) -> None:
        """Return when so many more requests have been done than now."""
        before = self.acknowledged()
        wait_for(lambda: self.acknowledged() >= before + more, f"{more} more requests to be done")

    def every_kind(self) -> None:
        """Return when each kind of request has been done once more."""
        before = Counter(answer.kind for answer in self.answers if answer.ok)

        def done() -> bool:
            now = Counter(answer.kind for answer in self.answers if answer.ok)
            return all(now[kind] > before[kind] for kind in self._kinds)

        wait_for(done, "each kind of request to be done")

    def refusals(self, more: int) -> None:
        """Return when so many more requests have been refused than now."""
        before = self._refused()
        wait_for(lambda: self._refused() >= before + more, f"{more} more requests to be refused")

    def _refused(self) -> int:
        return sum(answer.status == 503 for answer in self.answers)

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join(timeout=120)
            for client in self.clients:
                client.close()
            assert not any(thread.is_alive() for thread in self._threads), "a client waits for ever"
