"""What a record's `data` holds, for each kind: names and JSON types.

A payload never loses a name or changes its type: records are kept for years and read by other programs. The suite
compares every record that it makes with these. `before` and `after` hold the changed thing's own fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from identity.audit.kinds import Kind

Json = Any


class Nothing(TypedDict):
    """The record's own fields say it all."""


class Login(TypedDict):
    """Whom it concerns, as he signs in."""

    login: NotRequired[str]
    fields: NotRequired[list[str]]


class MaybeSource(Login):
    """`source` and `immutable_id` where a directory is behind it."""

    source: NotRequired[str]
    immutable_id: NotRequired[str]


class SessionBegun(TypedDict):
    """`amr` are the methods (RFC 8176); `partial`: the second factor is still owed."""

    surface: str
    amr: list[str]
    partial: bool


class SessionEnded(TypedDict):
    """`told` are the protocols of the applications that are told, one for each."""

    surface: str
    told: list[str]


class Entered(TypedDict):
    """By which door and how strongly; `released` are names of attributes, never values."""

    door: str
    acr: str
    released: list[str]
    roles: list[str]


class Factor(TypedDict):
    factor: str


class PasswordChanged(TypedDict):
    by: NotRequired[str]


class Role(TypedDict):
    role: str


class Consent(TypedDict):
    agreed: list[str]


class CodeIssued(TypedDict):
    grant: str
    scopes: list[str]


class TokenIssued(TypedDict):
    """`released` are names of claims, never values."""

    audience: str
    scopes: list[str]
    grant: NotRequired[str]
    grant_type: NotRequired[str]
    roles: NotRequired[list[str]]
    released: NotRequired[list[str]]


class TokenRefused(TypedDict):
    detail: NotRequired[str]
    grant: NotRequired[str]
    id: NotRequired[str]


class TokenRevoked(TypedDict):
    found: NotRequired[bool]
    grant: NotRequired[str]
    jti: NotRequired[str]


class Introspected(TypedDict):
    active: bool


class Released(TypedDict):
    released: list[str]


class Detail(TypedDict):
    detail: NotRequired[str]


class AssertionIssued(TypedDict):
    in_response_to: str | None
    attributes: list[str]


class Service(TypedDict):
    service: NotRequired[str]


class DecidedItem(TypedDict):
    user: str | None
    person: str | None
    resource_type: str | None
    resource_id: str | None
    action: str | None
    intent: str | None
    result: str
    reason: str
    rules: list[str]
    input: Json


class DecisionsMade(TypedDict):
    permitted: int
    denied: int
    items: list[DecidedItem]


class DecisionsReported(TypedDict):
    """`items` as the application stated them, with the persons as we know them."""

    origin: str
    permitted: int
    denied: int
    refused: int
    skew_s: float
    items: list[dict[str, Json]]


class BundleRead(TypedDict):
    """`digest` names the content; `changed`: the application did not have it yet."""

    form: str
    digest: str
    subjects: int
    changed: bool


class DecisionExplained(TypedDict):
    record: NotRequired[str]
    item: NotRequired[int | None]
    asked: NotRequired[str]


class SearchMade(TypedDict):
    sought: NotRequired[str]
    count: NotRequired[int]
    more: NotRequired[bool]


class DecisionsMissed(TypedDict):
    """So many were answered between two times by a process and are not kept."""

    count: int
    since: str
    until: str
    process: str


class GroupChanged(TypedDict):
    group: str
    login: NotRequired[str]


class AssignmentChanged(TypedDict):
    assignment: str
    role: str
    holder_kind: str
    holder: str
    company: str | None
    org_unit: str | None
    business_type: str | None
    limit: str | None
    valid_from: str | None
    valid_until: str | None


class GainHeld(TypedDict):
    """`cause` names the mapping or grant; `duties` are the roles or permissions that may not meet."""

    rule: str
    cause: str
    duties: list[str]


class GainReleased(TypedDict):
    cause: str


class DutiesReported(TypedDict):
    found: int
    open: int


class AdminGrantChanged(TypedDict):
    holder_kind: str
    holder: str
    powers: list[str]
    roles: list[str]
    company: NotRequired[str]
    org_unit: NotRequired[str]
    business_type: NotRequired[str]
    limit: NotRequired[dict[str, str]]
    max_days: NotRequired[int]
    valid_from: NotRequired[str]
    valid_until: NotRequired[str]


class Proposal(TypedDict):
    proposal: str
    action: str
    state: str


class ApplicationChanged(TypedDict):
    application: str


class ResourcesRegistered(TypedDict):
    put: int
    removed: int
    types: list[str]


class DirectoryChanged(TypedDict):
    directory: str


class SyncStarted(TypedDict):
    mode: str
    run: str


class SyncEnded(TypedDict):
    run: str
    state: str
    counts: dict[str, int]
    error: str | None
    failed: int


class SyncRun(TypedDict):
    run: str


class SyncUndone(TypedDict):
    run: str
    by: str


class SyncDecided(TypedDict):
    entry: str
    action: str
    user: str


class KeyCreated(TypedDict):
    kid: str
    algorithm: str
    state: str


class ReportMade(TypedDict):
    report: str
    rows: int
    sha256: str
    days: NotRequired[int]
    since: NotRequired[str]
    until: NotRequired[str]


class ReportRead(TypedDict):
    report: str


class AlarmRaised(TypedDict):
    """`detail` is the finding's own."""

    key: str
    count: int
    detail: dict[str, Json]


class Searched(TypedDict):
    """`filter` as it was asked: field to text."""

    filter: dict[str, Json]
    rows: int


class Exported(Searched):
    format: str
    sha256: str


class SearchSaved(TypedDict):
    what: str
    query: dict[str, str]


class Redacted(TypedDict):
    fields: list[str]


# "class" and "from" are no names in a class's body.
Purged = TypedDict("Purged", {"class": str, "from": str, "until": str, "days": int})


class AnchorGap(TypedDict):
    gap_s: float
    bound_s: float


_OF_AREA: Mapping[str, type] = {
    "people.group": GroupChanged,
    "people.group_member": GroupChanged,
    "people": MaybeSource,
}

_NOTHING = frozenset(
    {
        Kind.SIGN_IN_REFUSED,
        Kind.FACTOR_REFUSED,
        Kind.RECOVERY_CODE_USED,
        Kind.CONSENT_WITHDRAWN,
        Kind.RECOVERY_CODES_MADE,
        Kind.FORWARD_STARTED,
        Kind.DECISION_MADE,
        Kind.CALLER_REFUSED,
        Kind.ROLE_CREATED,
        Kind.ROLE_CHANGED,
        Kind.POLICY_PUBLISHED,
        Kind.MITIGATION_ADDED,
        Kind.MITIGATION_ENDED,
        Kind.SHIPPING_CHANGED,
        Kind.SYNC_RESUMED,
        Kind.KEY_ROTATED,
        Kind.SCHEDULE_CHANGED,
        Kind.ALARM_SEEN,
        Kind.ALARM_SET,
        Kind.AUDIT_READ,
        Kind.RETENTION_CHANGED,
    }
)
_OF_KIND: Mapping[Kind, type] = {
    Kind.SESSION_STARTED: SessionBegun,
    Kind.SESSION_RENEWED: SessionBegun,
    Kind.SESSION_REFUSED: Login,
    Kind.SESSION_ENDED: SessionEnded,
    Kind.SIGN_IN_COMPLETED: Entered,
    Kind.FACTOR_ENROLLED: Factor,
    Kind.FACTOR_REMOVED: Factor,
    Kind.PASSWORD_CHANGED: PasswordChanged,
    Kind.SETUP_TOKEN_ISSUED: Role,
    Kind.SETUP_TOKEN_REFUSED: Login,
    Kind.CONSENT_GIVEN: Consent,
    Kind.CODE_ISSUED: CodeIssued,
    Kind.TOKEN_ISSUED: TokenIssued,
    Kind.TOKEN_REFRESHED: TokenIssued,
    Kind.TOKEN_REFUSED: TokenRefused,
    Kind.TOKEN_REVOKED: TokenRevoked,
    Kind.TOKEN_INTROSPECTED: Introspected,
    Kind.USERINFO_RELEASED: Released,
    Kind.AUTHORIZATION_REFUSED: Detail,
    Kind.SAML_REQUEST_REFUSED: Detail,
    Kind.FORWARD_REFUSED: Detail,
    Kind.ASSERTION_ISSUED: AssertionIssued,
    Kind.TICKET_ISSUED: Service,
    Kind.TICKET_VALIDATED: Service,
    Kind.TICKET_REFUSED: Service,
    Kind.CAS_REQUEST_REFUSED: Service,
    Kind.DECISIONS_MADE: DecisionsMade,
    Kind.DECISIONS_REPORTED: DecisionsReported,
    Kind.DECISION_EXPLAINED: DecisionExplained,
    Kind.SEARCH_MADE: SearchMade,
    Kind.BUNDLE_READ: BundleRead,
    Kind.DECISIONS_MISSED: DecisionsMissed,
    Kind.ASSIGNMENT_ADDED: AssignmentChanged,
    Kind.ASSIGNMENT_REVOKED: AssignmentChanged,
    Kind.GAIN_HELD: GainHeld,
    Kind.GAIN_RELEASED: GainReleased,
    Kind.DUTIES_REPORTED: DutiesReported,
    Kind.ADMIN_GRANT_ADDED: AdminGrantChanged,
    Kind.ADMIN_GRANT_REVOKED: AdminGrantChanged,
    Kind.PROPOSAL_MADE: Proposal,
    Kind.PROPOSAL_DECIDED: Proposal,
    Kind.APPLICATION_CREATED: ApplicationChanged,
    Kind.APPLICATION_CHANGED: ApplicationChanged,
    Kind.APPLICATION_FACE_CHANGED: ApplicationChanged,
    Kind.ACCOUNT_LINKED: ApplicationChanged,
    Kind.APPLICATION_SECRET_SET: ApplicationChanged,
    Kind.RESOURCES_REGISTERED: ResourcesRegistered,
    Kind.DIRECTORY_CHANGED: DirectoryChanged,
    Kind.SYNC_STARTED: SyncStarted,
    Kind.SYNC_FINISHED: SyncEnded,
    Kind.SYNC_HELD: SyncEnded,
    Kind.SYNC_FAILED: SyncEnded,
    Kind.SYNC_APPROVED: SyncRun,
    Kind.SYNC_REJECTED: SyncRun,
    Kind.SYNC_UNDONE: SyncUndone,
    Kind.SYNC_DECIDED: SyncDecided,
    Kind.KEY_CREATED: KeyCreated,
    Kind.REPORT_MADE: ReportMade,
    Kind.REPORT_READ: ReportRead,
    Kind.ALARM_RAISED: AlarmRaised,
    Kind.AUDIT_SEARCHED: Searched,
    Kind.AUDIT_EXPORTED: Exported,
    Kind.SEARCH_SAVED: SearchSaved,
    Kind.AUDIT_REDACTED: Redacted,
    Kind.AUDIT_PURGED: Purged,
    Kind.ANCHOR_LATE: AnchorGap,
    Kind.ANCHOR_RECOVERED: AnchorGap,
}


def payload_of(kind: Kind) -> type:
    """The type of `data` in records of this kind, a TypedDict; raises `KeyError` for a kind that declares none."""
    area, noun, _ = kind.value.split(".")
    if kind in _NOTHING:
        return Nothing
    return _OF_KIND.get(kind) or _OF_AREA.get(f"{area}.{noun}") or _OF_AREA[area]
