"""Single logout (SAML Core §3.7, Profiles §4.4): whom a message means, who must hear, what is said."""

from __future__ import annotations

import secrets as random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from lxml import etree
from lxml.builder import ElementMaker
from sqlalchemy import Connection, delete, select, update

from identity.apps.registry import Apps, Registry, Sp
from identity.core.errors import Invalid
from identity.core.unit import Unit
from identity.core.xml import text_of
from identity.login.logout import LogoutNotifiers, Participant
from identity.login.models import LoginSession, SessionParticipant
from identity.saml import names
from identity.saml.bindings import Message, bad, check_destination, check_instant, parse_time
from identity.saml.models import SamlLogoutLeg
from identity.saml.names import NS, SAMLP
from identity.saml.request import issuer_of

KEPT = timedelta(hours=12)
_P = ElementMaker(namespace=names.SAMLP, nsmap={"samlp": names.SAMLP, "saml": names.SAML})
_A = ElementMaker(namespace=names.SAML, nsmap={"saml": names.SAML})


@dataclass(frozen=True, slots=True)
class LogoutRequest:
    """A signed request of a service provider to end sessions of one person."""

    sp: Sp
    id: str
    name_id: str
    session_indexes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LogoutResponse:
    """A signed answer of a service provider to a LogoutRequest of ours."""

    sp: Sp
    in_response_to: str
    success: bool


def read(message: Message, apps: Apps, destination: str, now: datetime) -> LogoutRequest | LogoutResponse:
    """The message, which MUST be signed (Profiles §4.4.3.1, §4.4.4.1); raises `Invalid` for any fault."""
    sp = issuer_of(message, apps)
    root = message.verified(sp.signing_certificates, required=True)
    check_destination(root, destination, signed=True)
    check_instant(root.get("IssueInstant", ""), now)
    if root.get("Version") != "2.0" or not root.get("ID") or not sp.options.get("slo_url"):
        raise bad("Version or ID is not right, or there is no address to answer to")
    if message.field == "SAMLResponse" and root.tag == f"{{{SAMLP}}}LogoutResponse":
        status = root.find("samlp:Status/samlp:StatusCode", NS)
        success = status is not None and status.get("Value") == f"{names.STATUS}Success" and len(status) == 0
        return LogoutResponse(sp, root.get("InResponseTo", ""), success)
    if message.field != "SAMLRequest" or root.tag != f"{{{SAMLP}}}LogoutRequest":
        raise bad("not a logout message")
    until = root.get("NotOnOrAfter")
    if until is not None and now >= parse_time(until):
        raise bad("the request has expired")
    name_ids = root.findall("saml:NameID", NS)
    if len(name_ids) != 1 or not text_of(name_ids[0]):
        raise bad("not one plain NameID")
    indexes = tuple(text_of(one) for one in root.findall("samlp:SessionIndex", NS))
    return LogoutRequest(sp, root.get("ID", ""), text_of(name_ids[0]), indexes)


def register(notifiers: LogoutNotifiers, registry: Registry) -> None:
    """Bind this door's notifier: each service provider with an address for it is to be told, in the browser."""

    def notify(unit: Unit, participant: Participant) -> None:
        apps = registry.current()
        for entity_id, (name_id, name_format) in participant.data.get("sps", {}).items():
            sp = apps.sp(entity_id)
            if sp is not None and sp.app.active and sp.options.get("slo_url"):
                unit.db.add(
                    SamlLogoutLeg(
                        session_id=participant.session_id,
                        entity_id=entity_id,
                        request_id=f"_{random.token_hex(20)}",
                        name_id=name_id,
                        name_id_format=name_format,
                        session_index=participant.sid,
                        state="waiting",
                        created_at=unit.now,
                    )
                )

    notifiers.register("saml", notify)


def remember(unit: Unit, sid: str, entity_id: str, name_id: str, name_format: str) -> None:
    """Keep by what name the service provider knows the person in this session: logout must say it."""
    row = unit.db.execute(
        select(SessionParticipant).where(SessionParticipant.sid == sid).with_for_update()
    ).scalar_one()
    row.data = {"sps": {**row.data.get("sps", {}), entity_id: [name_id, name_format]}}


def sessions_meant(connection: Connection, request: LogoutRequest) -> list[UUID]:
    """The live sessions in which this service provider knows the person by this NameID (Core §3.7.3.2).

    Those of the session indexes, of none given all; an index of another application or person means nothing.
    """
    query = (
        select(SessionParticipant.session_id, SessionParticipant.sid, SessionParticipant.data)
        .join(LoginSession, LoginSession.id == SessionParticipant.session_id)
        .where(
            SessionParticipant.application_id == request.sp.app.id,
            SessionParticipant.protocol == "saml",
            LoginSession.ended_at.is_(None),
        )
    )
    if request.session_indexes:
        query = query.where(SessionParticipant.sid.in_(request.session_indexes))
    return [
        row.session_id
        for row in connection.execute(query)
        if row.data.get("sps", {}).get(request.sp.entity_id, [None])[0] == request.name_id
    ]


def note_asked(unit: Unit, request: LogoutRequest, session_id: UUID, relay_state: str | None) -> None:
    """The service provider that asked needs no request of ours, and gets the answer when the others have heard."""
    unit.db.flush()
    unit.db.execute(
        update(SamlLogoutLeg)
        .where(SamlLogoutLeg.session_id == session_id, SamlLogoutLeg.entity_id == request.sp.entity_id)
        .values(state="asked", request_id=request.id, relay_state=relay_state)
    )


def next_leg(unit: Unit, session_id: UUID) -> SamlLogoutLeg | None:
    """The next service provider to be told, now marked as sent; None when all were tried."""
    return unit.db.execute(
        update(SamlLogoutLeg)
        .where(
            SamlLogoutLeg.id
            == select(SamlLogoutLeg.id)
            .where(SamlLogoutLeg.session_id == session_id, SamlLogoutLeg.state == "waiting")
            .order_by(SamlLogoutLeg.id)
            .limit(1)
            .scalar_subquery()
        )
        .values(state="sent")
        .returning(SamlLogoutLeg)
    ).scalar_one_or_none()


def legs_of(unit: Unit, session_id: UUID) -> Sequence[SamlLogoutLeg]:
    """Every leg of the session's logout."""
    return (
        unit.db.execute(select(SamlLogoutLeg).where(SamlLogoutLeg.session_id == session_id).order_by(SamlLogoutLeg.id))
        .scalars()
        .all()
    )


def settle(unit: Unit, response: LogoutResponse) -> UUID:
    """The answered leg is confirmed or failed; its session. Raises `Invalid` for an answer to nothing that was sent."""
    found = unit.db.execute(
        update(SamlLogoutLeg)
        .where(
            SamlLogoutLeg.request_id == response.in_response_to,
            SamlLogoutLeg.entity_id == response.sp.entity_id,
            SamlLogoutLeg.state == "sent",
        )
        .values(state="confirmed" if response.success else "failed")
        .returning(SamlLogoutLeg.session_id)
    ).scalar_one_or_none()
    if found is None:
        raise Invalid("This logout was not begun here.", "InResponseTo is not known", code="unknown_logout")
    return found


def request_xml(issuer: str, destination: str, leg: SamlLogoutLeg, now: datetime) -> bytes:
    """A LogoutRequest of ours."""
    root = _P.LogoutRequest(
        _A.Issuer(issuer),
        _A.NameID(leg.name_id, Format=leg.name_id_format, SPNameQualifier=leg.entity_id),
        _P.SessionIndex(leg.session_index),
        ID=leg.request_id,
        Version="2.0",
        IssueInstant=_time(now),
        NotOnOrAfter=_time(now + timedelta(minutes=5)),
        Destination=destination,
    )
    return etree.tostring(root)


def response_xml(
    issuer: str, destination: str, in_response_to: str, status: str, second: str | None, now: datetime
) -> bytes:
    """A LogoutResponse of ours."""
    code = _P.StatusCode(Value=f"{names.STATUS}{status}")
    if second is not None:
        code.append(_P.StatusCode(Value=f"{names.STATUS}{second}"))
    root = _P.LogoutResponse(
        _A.Issuer(issuer),
        _P.Status(code),
        ID=f"_{random.token_hex(20)}",
        Version="2.0",
        IssueInstant=_time(now),
        Destination=destination,
        InResponseTo=in_response_to,
    )
    return etree.tostring(root)


def purge(connection: Connection, now: datetime) -> None:
    """Drop legs that nobody can answer any more."""
    connection.execute(delete(SamlLogoutLeg).where(SamlLogoutLeg.created_at < now - KEPT))


def _time(value: datetime) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")
