"""What an act leaves in the audit, before it is encoded: a plain value that any area can make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol
from uuid import UUID

from identity.core.secrets import new_id

Result = Literal["success", "permit", "deny", "refused", "failed"]


class Actor(NamedTuple):
    """Who acts: a user, an application with its own credentials, a system job, or nobody known yet."""

    kind: Literal["user", "application", "system", "anonymous"]
    id: str
    name: str = ""
    user: UUID | None = None
    person: UUID | None = None
    session: UUID | None = None

    @classmethod
    def system(cls, name: str) -> Actor:
        return cls("system", name, name)


ANONYMOUS = Actor("anonymous", "")


class Origin(NamedTuple):
    """Where a request came from, as far as the trusted proxies tell; `trace` is what the caller says that it belongs to
    (`core.trace`: trace id and flags), nobody's proof of anything."""

    ip: str = ""
    user_agent: str = ""
    trace: str = ""


@dataclass(slots=True)
class Record:
    """One audit record.

    `kind` is an `audit.kinds.Kind` (`area.noun.verb`); `reason` a stable code; `data` the payload of that kind
    without secrets; `personal` values are stored beside the record, the record holds their salted hash; `input`
    is a decision's whole input, enough to evaluate it again.
    """

    kind: str
    result: Result
    reason: str = ""
    user: UUID | None = None
    person: UUID | None = None
    session: UUID | None = None
    application: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    action: str | None = None
    intent: str | None = None
    policy_version: int | None = None
    facts_revision: int | None = None
    rules: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    input: Mapping[str, Any] | None = None
    personal: Mapping[str, str] = field(default_factory=dict)
    id: UUID = field(default_factory=new_id)

    @property
    def outlives_rollback(self) -> bool:
        """Whether it stays true when the transaction of its act is rolled back (refusals and decisions do)."""
        return self.result != "success"


class Call(Protocol):
    """What every act carries; `Unit` and `HotCall` both are one."""

    @property
    def actor(self) -> Actor: ...
    @property
    def now(self) -> datetime: ...
    @property
    def request_id(self) -> str: ...
    @property
    def origin(self) -> Origin: ...
    @property
    def records(self) -> list[Record]: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def reference(self) -> str | None: ...


@dataclass(slots=True)
class StandingCall:
    """A `Call` of the product itself, outside any request."""

    actor: Actor
    now: datetime
    request_id: str = field(default_factory=lambda: str(new_id()))
    origin: Origin = field(default_factory=Origin)
    records: list[Record] = field(default_factory=list)
    reason: str | None = None
    reference: str | None = None
