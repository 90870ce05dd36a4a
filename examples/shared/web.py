"""The web part that the examples share: server-side sessions, form protection, two languages, one layout."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import requests
from flask import Flask, Request, Response, abort, redirect, render_template, request, session, url_for
from flask.sessions import SessionInterface, SessionMixin
from jinja2 import ChoiceLoader, FileSystemLoader
from werkzeug.datastructures import CallbackDict
from werkzeug.serving import make_server
from werkzeug.wrappers import Response as BaseResponse

from examples.shared.config import Config
from examples.shared.keys import KeysUnavailable
from examples.shared.pdp import Answer

SHARED = Path(__file__).parent
IDLE_S = 1_800
ABSOLUTE_S = 28_800


class ServerSession(CallbackDict[str, Any], SessionMixin):
    """A session that stays on this server; the browser holds its random key only."""

    def __init__(self, key: str, values: Mapping[str, Any], *, new: bool) -> None:
        super().__init__(values, lambda changed: setattr(changed, "modified", True))
        self.key = key
        self.new = new
        self.modified = False

    def renew(self) -> None:
        """A new key for whoever has just signed in, so that a planted one is worth nothing."""
        self.key = secrets.token_urlsafe(32)
        self.modified = True


class Sessions(SessionInterface):
    """Sessions in this process's memory: restarting the example signs everybody out of it."""

    def __init__(self, cookie: str, *, secure: bool) -> None:
        # Cookies know no ports: every application on localhost gets every other's. Each has a name of its own.
        self._cookie = cookie
        self._secure = secure
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, float, dict[str, Any]]] = {}

    def open_session(self, app: Flask, request: Request) -> ServerSession:
        key, now = request.cookies.get(self._cookie, ""), time.monotonic()
        with self._lock:
            began, used, values = self._kept.get(key, (0.0, 0.0, {}))
            if not values or now - began > ABSOLUTE_S or now - used > IDLE_S:
                self._kept.pop(key, None)
                return ServerSession(secrets.token_urlsafe(32), {}, new=True)
            self._kept[key] = (began, now, values)
        return ServerSession(key, values, new=False)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        if not isinstance(session, ServerSession) or not session.modified:
            return
        old, now = request.cookies.get(self._cookie, ""), time.monotonic()
        with self._lock:
            ended_meanwhile = not session.new and old not in self._kept
            if ended_meanwhile:
                return
            began = self._kept.get(old, (now, now, {}))[0]
            if session.key != old:
                self._kept.pop(old, None)
            if session:
                self._kept[session.key] = (began, now, dict(session))
        if session:
            response.set_cookie(self._cookie, session.key, httponly=True, samesite="Lax", secure=self._secure, path="/")
        else:
            response.delete_cookie(self._cookie, path="/")

    def end(self, matches: Callable[[Mapping[str, Any]], bool]) -> int:
        """End the sessions that match (a logout told by the server); how many there were."""
        with self._lock:
            ended = [key for key, (_, _, values) in self._kept.items() if matches(values)]
            for key in ended:
                del self._kept[key]
        return len(ended)


class NotSignedIn(Exception):
    """Nobody is signed in; raised by `signed_in`."""


def create(name: str, config: Config, title: tuple[str, str]) -> tuple[Flask, Sessions]:
    """A Flask application with its sessions and the shared layout; `title` is Chinese and English."""
    app = Flask(name, root_path=str(SHARED.parent / config.code), static_folder=str(SHARED / "static"))
    app.jinja_loader = ChoiceLoader(
        [FileSystemLoader(SHARED.parent / config.code / "templates"), FileSystemLoader(SHARED / "templates")]
    )
    app.config["MAX_CONTENT_LENGTH"] = 512 * 1024
    app.session_interface = sessions = Sessions(f"{config.code}_session", secure=config.secure)
    app.jinja_env.globals.update(t=t, csrf_token=csrf_token, app_title=title, tessera_url=config.tessera_url)

    @app.before_request
    def check_form() -> None:
        protected = request.method == "POST" and not getattr(app.view_functions.get(request.endpoint or ""), "open", 0)
        if protected and not secrets.compare_digest(request.form.get("csrf", ""), session.get("csrf", "-")):
            abort(400, "The form has expired; load the page again.")

    @app.after_request
    def headers(response: Response) -> Response:
        # A form's target may answer with a redirect to the server (sign-out), and browsers hold it to form-action.
        response.headers["Content-Security-Policy"] = (
            f"default-src 'none'; style-src 'self'; form-action 'self' {config.tessera_url}; base-uri 'none'"
        )
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Referrer-Policy"] = "no-referrer"
        if request.endpoint != "static":
            response.headers["Cache-Control"] = "no-store"
        return response

    @app.errorhandler(NotSignedIn)
    def sign_in_first(_: Exception) -> BaseResponse | tuple[str, int]:
        if request.method != "GET":
            return render_template("message.html", heading=t("请先登录", "Please sign in first"), text=""), 401
        session["after"] = request.path
        return redirect(url_for("login"))

    @app.errorhandler(requests.RequestException)
    @app.errorhandler(KeysUnavailable)
    def server_away(_: Exception) -> tuple[str, int]:
        text = t("身份服务暂时没有应答,请稍后再试。", "The identity server does not answer; please try again.")
        return render_template("message.html", heading=t("暂不可用", "Not available"), text=text), 503

    @app.get("/signed-out")
    def signed_out() -> str:
        return render_template("message.html", heading=t("已退出", "Signed out"), text=t(*title))

    @app.get("/healthz")
    def health() -> str:
        return "ok"

    return app, sessions


def open_to_servers(view: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a POST route that other servers or an identity provider's page call: it proves its caller by itself."""
    view.open = True  # type: ignore[attr-defined]
    return view


def signed_in() -> dict[str, Any]:
    """Who is signed in; else a page that was asked for follows the sign-in, and a form is refused."""
    user: dict[str, Any] | None = session.get("user")
    if user is None:
        raise NotSignedIn
    return user


def arrive(user: Mapping[str, Any]) -> BaseResponse:
    """The sign-in is complete: a fresh session for this user, and on to the page that he asked for."""
    session.renew()  # type: ignore[attr-defined]
    session.pop("csrf", None)
    session["user"] = dict(user)
    return redirect(session.pop("after", None) or url_for("home"))


def csrf_token() -> str:
    """The token of this session's forms."""
    if "csrf" not in session:
        session["csrf"] = secrets.token_urlsafe(32)
    return str(session["csrf"])


def t(zh: str, en: str) -> str:
    """The one of the two texts that the browser's languages ask for."""
    return zh if request.accept_languages.best_match(["zh", "en"], default="en") == "zh" else en


def show(answer: Answer) -> None:
    """Keep what the decision point answered for the next page."""
    session["answer"] = {
        "permit": answer.permit,
        "reason": answer.reason,
        "text": t(answer.zh, answer.en),
        "record": answer.record,
        "policy_version": answer.policy_version,
    }


def serve(app: Flask, config: Config) -> None:
    """Serve on loopback until the program is stopped. An example is no production server."""
    server = make_server("127.0.0.1", config.port, app, threaded=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
