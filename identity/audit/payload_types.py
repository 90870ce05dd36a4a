"""The payloads of audit kinds, as JSON types; `payloads.py` says which kind has which."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

Json = Any


class Nothing(TypedDict):
    """The record's own fields say it all."""


class Login(TypedDict):
    """Whom it concerns, as he signs in. `written_to`: by directory the fields that go there."""

    login: NotRequired[str]
    fields: NotRequired[list[str]]
    written_to: NotRequired[dict[str, list[str]]]


class MaybeSource(Login):
    """`source` and `immutable_id` where a directory is behind it."""

    source: NotRequired[str]
    immutable_id: NotRequired[str]
    erased: NotRequired[bool]


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
    agreed: bool


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
    """`digest` names the content; `changed`: the application did not have it yet. A refusal has none of it."""

    form: NotRequired[str]
    digest: NotRequired[str]
    subjects: NotRequired[int]
    changed: NotRequired[bool]


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


class WriteBack(TypedDict):
    """`field` names what was changed, never its value; `detail` the directory's word for why not."""

    login: str
    field: str
    attempts: int
    detail: NotRequired[str]


class KeyCreated(TypedDict):
    kid: str
    algorithm: str
    state: str


class ReportMade(TypedDict):
    report: str
    rows: int
    sha256: str
    days: NotRequired[int]
    day: NotRequired[str]
    at: NotRequired[str]
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


class Draft(TypedDict):
    """The draft's row, its title, and the state after the act."""

    draft: str
    title: str
    state: str


class Published(TypedDict):
    """The draft whose rules these are, and their digest."""

    draft: NotRequired[str]
    digest: NotRequired[str]
    restores: NotRequired[int]


class PolicyChecked(TypedDict):
    """`before` is the version compared with; `days` of recorded decisions are replayed."""

    check: str
    kind: str
    before: int | None
    days: int | None


class CheckExported(TypedDict):
    """Which check, and by what its rows were narrowed."""

    check: str
    application: NotRequired[str]
    kind: NotRequired[str]
    change: NotRequired[str]
    name: NotRequired[str]
    q: NotRequired[str]


class HoldingsRead(TypedDict):
    """The day asked about (ISO 8601), by whom it was narrowed, and how many rows were shown."""

    day: str
    as_known_today: bool
    rows: int
    person: NotRequired[str]
    application: NotRequired[str]
    role: NotRequired[str]


class CredentialsForgotten(TypedDict):
    """Names of the tables from which something was deleted."""

    kinds: list[str]
