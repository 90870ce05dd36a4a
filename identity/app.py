"""The composition root: everything is made and bound here, by hand, top to bottom."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from flask import Flask, render_template

from identity import api, cas, console, forward, oauth, saml
from identity.access.decide import Access
from identity.access.publishing import watching
from identity.access.snapshot import Snapshots
from identity.apps.registry import Registry
from identity.audit.alarm import gap_state, recording_state
from identity.audit.buffered import Buffered
from identity.audit.recorder import Recorder
from identity.authzen import distribution
from identity.authzen import hot as authzen_hot
from identity.cli import identity_cli
from identity.core import log, web
from identity.core.db import init_database
from identity.core.edge import Edge
from identity.core.errors import TesseraError
from identity.core.feed import Feed
from identity.core.health import routes as health_routes
from identity.core.metrics import routes as metrics_routes
from identity.core.present import install_presentation
from identity.core.settings import Settings, SettingsError
from identity.core.unit import Units
from identity.events.deliver import Composers, Mail
from identity.events.mail import send_mail
from identity.keys.keyring import Keyring
from identity.keys.wrap import load_root
from identity.login import routes as login_routes
from identity.login import routes_account as account_routes
from identity.login import routes_password as password_routes
from identity.login import routes_setup as setup_routes
from identity.login.authenticate import DirectoryVerifier
from identity.login.gate import PageGate
from identity.login.logout import LogoutNotifiers
from identity.sync.verifiers import Verifiers


def _utc_now() -> datetime:
    return datetime.now(UTC)


def create_app(settings: Settings, clock: Callable[[], datetime] = _utc_now) -> Flask:
    """The Flask app, wired; `app.extensions["tessera_edge"]` is the WSGI application to serve.

    `clock` says when a request comes; everything that it does happens at that time.
    """
    log.configure(settings.log_level)
    # Requests that wait for a commit are live objects, and more of them than Python's threshold: it would look for
    # garbage all the time, and find none.
    gc.set_threshold(50_000, 20, 20)
    settings.tessera_var.mkdir(parents=True, exist_ok=True)
    app = _flask(settings)

    database = init_database(app, settings.sqlalchemy_url)
    feed = Feed(database)
    root = load_root(settings)
    keyring = Keyring(database, feed, root)
    registry = Registry(database, feed)
    snapshots = Snapshots(database, feed)
    access = Access(snapshots)
    recorder = Recorder(database, Buffered(settings.tessera_var / "recorder"))
    units = Units(database, recorder, feed, access.guard)
    notifiers, composers = LogoutNotifiers(), Composers(mail=_mailer(settings))

    for thing in (settings, database, feed, keyring, registry, access, recorder, units, notifiers, composers):
        web.provide(app, thing)
    web.provide(app, Verifiers(database), as_type=DirectoryVerifier)
    web.provide(app, PageGate(), as_type=web.Gate)
    app.extensions["tessera_root"] = root
    units.watched_by(watching(demo=settings.tessera_demo))

    install_presentation(app)
    web.install(app, _error_page)
    _blueprints(app)
    _bind_logout(notifiers, composers, keyring, registry, settings)

    routes = [
        *health_routes(database, feed, lambda connection, now: gap_state(connection, settings.audit_gap_s, now)),
        *metrics_routes(settings.metrics_networks, database, recorder.metrics, recording_state),
        *authzen_hot.routes(settings.public_url, registry, access, database, recorder),
        *distribution.routes(settings.public_url, keyring, registry, access, database, recorder),
        *api.routes(registry, access, database, recorder),
        *oauth.hot_routes(settings, database, keyring, registry, access, recorder),
        *cas.hot_routes(settings, database, registry, access, recorder),
        *forward.hot_routes(settings, database, registry, access, recorder),
    ]
    app.extensions["tessera_edge"] = Edge(
        app.wsgi_app,
        routes,
        trusted_proxies=settings.trusted_proxies,
        secure=settings.secure,
        start=feed.start,
        fresh=feed.is_fresh,
        clock=clock,
        sink=recorder,
    )
    return app


def _flask(settings: Settings) -> Flask:
    """The bare Flask app; raises `SettingsError` for debug mode outside the demo."""
    app = Flask("identity", static_folder="console/static", template_folder="console/templates")
    if app.debug and not settings.tessera_demo:
        raise SettingsError("Tessera cannot start:\n  FLASK_DEBUG: shows its insides to visitors; only the demo may")
    app.config["MAX_CONTENT_LENGTH"] = 1_048_576
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    return app


def _bind_logout(
    notifiers: LogoutNotifiers, composers: Composers, keyring: Keyring, registry: Registry, settings: Settings
) -> None:
    oauth.register_logout(notifiers, composers, keyring, registry, settings)
    cas.register_logout(notifiers, registry)
    saml.register_logout(notifiers, registry)
    notifiers.onward = saml.onward


def _blueprints(app: Flask) -> None:
    for blueprint in (
        login_routes.bp,
        account_routes.bp,
        setup_routes.bp,
        password_routes.bp,
        *oauth.blueprints,
        *saml.blueprints,
        *cas.blueprints,
        *forward.blueprints,
        *console.blueprints,
    ):
        app.register_blueprint(blueprint)
    app.cli.add_command(identity_cli)


def _mailer(settings: Settings) -> Mail | None:
    """The way of our mail, where a mail server is set."""
    if settings.smtp_url is None:
        return None
    smtp_url, sender = settings.smtp_url.get_secret_value(), settings.mail_from

    def mail(address: str, payload: Mapping[str, Any]) -> None:
        file = payload.get("file")
        send_mail(smtp_url, sender, address, payload["subject"], payload["text"], tuple(file) if file else None)

    return mail


def _error_page(error: TesseraError, status: int) -> str:
    heading, again = web.heading(status), web.way_back()
    return render_template("error.html", message=error.public, status=status, heading=heading, again=again)
