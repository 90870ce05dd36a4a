"""Single logout (CAS 3.0 §2.3.3): a message to the service, by the outbox, never in the way of the logout.

The protocol says nothing of the answer, and clients redirect, refuse the method or show a page after they have heard.
"""

from __future__ import annotations

from identity.apps.registry import Registry
from identity.cas.response import logout_request
from identity.core.secrets import new_id
from identity.core.unit import Unit
from identity.events.outbox import send
from identity.login.logout import LogoutNotifiers, Participant


def register(notifiers: LogoutNotifiers, registry: Registry) -> None:
    """Bind this door's notifier."""

    def notify(unit: Unit, participant: Participant) -> None:
        known = {service.logout_url for service in registry.current().cas_services}
        for ticket, address in participant.data.get("tickets", ()):
            if address in known:
                message = logout_request(f"LR-{new_id()}", ticket, unit.now.strftime("%Y-%m-%dT%H:%M:%SZ"))
                send(unit, "http_notice", address, {"logoutRequest": message}, f"cas:{participant.app_id}")

    notifiers.register("cas", notify)
