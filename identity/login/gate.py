"""The gate of our own pages: who is behind this request, and may he see this page."""

from __future__ import annotations

from ipaddress import ip_network
from urllib.parse import quote, urlsplit

from flask import g, request
from werkzeug.wrappers import Response

from identity.core.errors import Refused
from identity.core.hot import inside
from identity.core.settings import Settings
from identity.core.web import Protection, open_unit, redirect_to, request_origin, this_page, use, way_back
from identity.login import service, session
from identity.login.doors import current_session


class PageGate:
    """Implements `core.web.Gate`."""

    def __call__(self, protection: Protection) -> Response | None:
        """None lets the request through; a response stands in its place. Raises `Refused`."""
        if protection.kind == "public":
            return None
        surface = "admin" if protection.kind == "permission" else "sso"
        if surface == "admin":
            check_place()
        with open_unit(write=False) as unit:
            found = current_session(unit, surface)
            stale = found is not None and session.needs_touch(unit.db.connection(), found.id, unit.now)
            actor = service.user_actor(unit, found.user_id, found.id) if found is not None else None
            now = unit.now
        if found is None or found.partial or (protection.fresh and not session.is_fresh(found, now)):
            return _to_sign_in(surface, again=found is not None and protection.fresh)
        g.actor, g.session = actor, found
        if stale:
            with open_unit() as unit:
                session.touch(unit.db.connection(), found.id, now)
        if protection.kind == "permission":
            with open_unit(write=False) as unit:
                unit.require(protection.action, protection.resource_type, "page")
        return None


def check_place() -> None:
    """The console answers on its own origin and to its own networks only; raises `Refused`."""
    settings = use(Settings)
    if settings.admin_url and request.host != urlsplit(settings.admin_url).netloc:
        raise Refused("The console is not served here.", code="admin_origin")
    networks = [ip_network(one) for one in settings.admin_networks]
    if networks and not inside(request_origin().ip, networks):
        raise Refused("The console is not served here.", code="admin_network")


def _to_sign_in(surface: str, *, again: bool) -> Response:
    # What a form would have sent is lost; the form names the page to begin it again from.
    here = this_page() if request.method == "GET" else way_back()
    door, start = ("console", "/admin") if surface == "admin" else ("portal", "/")
    suffix = "&again=1" if again else ""
    return redirect_to(f"/{door}/enter?next={quote(here or start)}{suffix}")
