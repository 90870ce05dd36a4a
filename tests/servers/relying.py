"""A tiny application on a host of its own: an OpenID Connect client and a SAML service provider in one file.

It proves nothing about messages (the protocol suites do that); it is the other site of a browser's journey. SAML
requests go out by POST, so that the browser makes the cross-site POST that SameSite cookies are about.
"""

from __future__ import annotations

import base64
import hashlib
import html
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import httpx
from lxml import etree
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from tests.servers.certificates import Certificates

SAML = "{urn:oasis:names:tc:SAML:2.0:assertion}"


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002  the base's own name
        """Say nothing."""


class RelyingParty:
    """`client` is (client id, secret) of an OpenID Connect client; without one it is a SAML service provider."""

    def __init__(
        self,
        base: str,
        issuer: str,
        tls: Certificates,
        call: Callable[..., httpx.Response],
        client: tuple[str, str] | None = None,
    ) -> None:
        self.base = base
        self._issuer = issuer
        self._call = call
        self._client = client
        self._sessions: dict[str, dict[str, Any]] = {}
        self.logout_tokens: list[str] = []
        self.subjects: dict[str, str] = {}
        self._server: BaseWSGIServer = make_server(
            "127.0.0.1",
            0,
            self._answer,
            threaded=True,
            request_handler=_Quiet,
            ssl_context=(str(tls.certificate), str(tls.key)),
        )
        self.port = self._server.server_port

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @Request.application
    def _answer(self, request: Request) -> Response:
        session = self._sessions.get(request.cookies.get("__Host-app", ""))
        match request.path:
            case "/":
                return self._home(session) if session and "user" in session else self._begin()
            case "/callback":
                return self._callback(request, session)
            case "/acs":
                return self._acs(request)
            case "/whoami":
                return self._whoami(session)
            case "/frame":
                return self._frame(request)
            case "/backchannel-logout":
                self.logout_tokens.append(request.form["logout_token"])
                return Response(status=200)
        return Response("not here", 404)

    def _home(self, session: dict[str, Any]) -> Response:
        roles = "".join(f"<li>{html.escape(one)}</li>" for one in session["roles"])
        return _page(f"<h1>Hello {html.escape(session['user'])}</h1><ul id=roles>{roles}</ul>")

    def _begin(self) -> Response:
        if self._client is None:
            return self._authn_request()
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "client_id": self._client[0],
            "response_type": "code",
            "redirect_uri": f"{self.base}/callback",
            "scope": "openid profile roles",
            "state": state,
            "nonce": secrets.token_urlsafe(16),
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        answer = Response(status=303, headers={"Location": f"{self._issuer}/oauth/authorize?{urlencode(query)}"})
        return self._with_session(answer, {"verifier": verifier, "state": state})

    def _callback(self, request: Request, session: dict[str, Any] | None) -> Response:
        if session is None or request.args.get("state") != session.get("state") or self._client is None:
            return Response("unknown state", 400)
        if "error" in request.args:
            return _page(f"<h1>Refused</h1><p id=error>{html.escape(request.args['error'])}</p>")
        form = {
            "grant_type": "authorization_code",
            "code": request.args["code"],
            "redirect_uri": f"{self.base}/callback",
            "code_verifier": session["verifier"],
        }
        tokens = self._call("POST", "/oauth/token", data=form, auth=self._client).json()
        info = self._userinfo(tokens["access_token"]).json()
        self.subjects[info["preferred_username"]] = info["sub"]
        answer = Response(status=303, headers={"Location": f"{self.base}/"})
        return self._with_session(
            answer,
            {"user": info["preferred_username"], "roles": info.get("roles", []), "token": tokens["access_token"]},
        )

    def _whoami(self, session: dict[str, Any] | None) -> Response:
        alive = session is not None and self._userinfo(session.get("token", "")).status_code == 200
        return _page(f"<h1>{'alive' if alive else 'dead'}</h1>")

    def _userinfo(self, token: str) -> httpx.Response:
        return self._call("GET", "/oauth/userinfo", headers={"Authorization": f"Bearer {token}"})

    def _authn_request(self) -> Response:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        message = (
            '<samlp:AuthnRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" '
            f'ID="_{secrets.token_hex(16)}" Version="2.0" IssueInstant="{now}" Destination="{self._issuer}/saml/sso">'
            f'<saml:Issuer xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion">{self.base}/metadata</saml:Issuer>'
            "</samlp:AuthnRequest>"
        )
        value = base64.b64encode(message.encode()).decode()
        return _page(
            f'<form method=post action="{self._issuer}/saml/sso"><input type=hidden name=SAMLRequest value="{value}">'
            '<input type=hidden name=RelayState value="ss:mem:1"></form><script>document.forms[0].submit()</script>'
        )

    def _acs(self, request: Request) -> Response:
        document = etree.fromstring(base64.b64decode(request.form["SAMLResponse"]))
        values = {
            one.get("FriendlyName") or one.get("Name"): [value.text for value in one]
            for one in document.iter(f"{SAML}Attribute")
        }
        if not values:
            return _page("<h1>Refused</h1>")
        user = next((texts[0] for name, texts in values.items() if "username" in name or name == "uid"), "?")
        roles = next((texts for name, texts in values.items() if name.endswith("roles")), [])
        answer = Response(status=303, headers={"Location": f"{self.base}/"})
        return self._with_session(answer, {"user": user, "roles": roles, "relay": request.form.get("RelayState")})

    def _frame(self, request: Request) -> Response:
        """Counts the visits of this browser that a third-party cookie lets it see."""
        seen = int(request.cookies.get("seen", "0")) + 1
        answer = _page(f"<p id=seen>{seen}</p>")
        answer.set_cookie("seen", str(seen), secure=True, samesite="None")
        answer.headers["Access-Control-Allow-Origin"] = request.headers.get("Origin", "*")
        answer.headers["Access-Control-Allow-Credentials"] = "true"
        return answer

    def _with_session(self, answer: Response, values: dict[str, Any]) -> Response:
        key = secrets.token_urlsafe(16)
        self._sessions[key] = values
        answer.set_cookie("__Host-app", key, secure=True, httponly=True, samesite="Lax")
        return answer


def _page(body: str) -> Response:
    return Response(f"<!doctype html><title>App</title>{body}", mimetype="text/html")
