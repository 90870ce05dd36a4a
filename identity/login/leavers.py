"""What a deleted identity could sign in with goes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, select

from identity.audit.kinds import Kind
from identity.core.record import Record
from identity.core.unit import Unit
from identity.login.models import AcceptedPassword, Consent, LocalPassword, RecoveryCode, SetupToken, TotpFactor
from identity.people.models import UserState

_TABLES: tuple[Any, ...] = (LocalPassword, AcceptedPassword, TotpFactor, RecoveryCode, SetupToken, Consent)


def forget_credentials_of_deleted(unit: Unit) -> None:
    """Remove passwords, second factors, tokens and consents of every deleted identity; one record for each."""
    deleted = select(UserState.user_id).where(UserState.state == "deleted", UserState.rev_until.is_(None))
    touched: dict[Any, list[str]] = {}
    for table in _TABLES:
        gone = delete(table).where(table.user_id.in_(deleted.scalar_subquery())).returning(table.user_id)
        for user_id in set(unit.db.execute(gone).scalars()):
            touched.setdefault(user_id, []).append(table.__tablename__)
    for user_id, tables in touched.items():
        unit.record(
            Record(
                kind=Kind.CREDENTIALS_FORGOTTEN,
                result="success",
                user=user_id,
                resource_type="user",
                resource_id=str(user_id),
                data={"kinds": tables},
            )
        )
