"""Table of who must still hear, in the browser, that a session is over."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from identity.core.db import Base, Keyed


class SamlLogoutLeg(Keyed, Base):
    """One service provider in the logout of one session (SAML Profiles §4.4).

    `asked` = it asked for the logout under `request_id` and gets the answer at the end; the others are told by a
    LogoutRequest of this id: waiting → sent → confirmed or failed. A leg that stays waiting or sent was not reached:
    its session ends by SessionNotOnOrAfter.
    """

    __tablename__ = "saml_logout_leg"
    __table_args__ = (CheckConstraint("state IN ('asked', 'waiting', 'sent', 'confirmed', 'failed')", name="state"),)

    session_id: Mapped[UUID] = mapped_column(ForeignKey("login_session.id"), index=True)
    entity_id: Mapped[str]
    request_id: Mapped[str] = mapped_column(index=True)
    name_id: Mapped[str]
    name_id_format: Mapped[str]
    session_index: Mapped[str]
    relay_state: Mapped[str | None]
    state: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(index=True)
