"""What a record's `data` holds, for each kind: names and JSON types.

A payload never loses a name or changes its type: records are kept for years and read by other programs. The suite
compares every record that it makes with these. `before` and `after` hold the changed thing's own fields.
"""

from __future__ import annotations

from collections.abc import Mapping

from identity.audit import payload_types as types
from identity.audit import payload_types_proof as proof_types
from identity.audit.kinds import Kind

_OF_AREA: Mapping[str, type] = {
    "roles.draft": types.Draft,
    "sync.write_back": types.WriteBack,
    "people.group": types.GroupChanged,
    "people.group_member": types.GroupChanged,
    "people": types.MaybeSource,
}

_NOTHING = frozenset(
    {
        Kind.SECOND_PERSON_PROPOSED,
        Kind.SECOND_PERSON_DECIDED,
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
    Kind.CREDENTIALS_FORGOTTEN: types.CredentialsForgotten,
    Kind.POLICY_PUBLISHED: types.Published,
    Kind.POLICY_CHECKED: types.PolicyChecked,
    Kind.CHECK_EXPORTED: types.CheckExported,
    Kind.HOLDINGS_READ: types.HoldingsRead,
    Kind.SESSION_STARTED: types.SessionBegun,
    Kind.SESSION_RENEWED: types.SessionBegun,
    Kind.SESSION_REFUSED: types.Login,
    Kind.SESSION_ENDED: types.SessionEnded,
    Kind.SIGN_IN_COMPLETED: types.Entered,
    Kind.FACTOR_ENROLLED: types.Factor,
    Kind.FACTOR_REMOVED: types.Factor,
    Kind.PASSWORD_CHANGED: types.PasswordChanged,
    Kind.SETUP_TOKEN_ISSUED: types.Role,
    Kind.SETUP_TOKEN_REFUSED: types.Login,
    Kind.CONSENT_GIVEN: types.Consent,
    Kind.CODE_ISSUED: types.CodeIssued,
    Kind.TOKEN_ISSUED: types.TokenIssued,
    Kind.TOKEN_REFRESHED: types.TokenIssued,
    Kind.TOKEN_REFUSED: types.TokenRefused,
    Kind.TOKEN_REVOKED: types.TokenRevoked,
    Kind.TOKEN_INTROSPECTED: types.Introspected,
    Kind.USERINFO_RELEASED: types.Released,
    Kind.AUTHORIZATION_REFUSED: types.Detail,
    Kind.SAML_REQUEST_REFUSED: types.Detail,
    Kind.FORWARD_REFUSED: types.Detail,
    Kind.ASSERTION_ISSUED: types.AssertionIssued,
    Kind.TICKET_ISSUED: types.Service,
    Kind.TICKET_VALIDATED: types.Service,
    Kind.TICKET_REFUSED: types.Service,
    Kind.CAS_REQUEST_REFUSED: types.Service,
    Kind.DECISIONS_MADE: types.DecisionsMade,
    Kind.DECISIONS_REPORTED: types.DecisionsReported,
    Kind.DECISION_EXPLAINED: types.DecisionExplained,
    Kind.SEARCH_MADE: types.SearchMade,
    Kind.BUNDLE_READ: types.BundleRead,
    Kind.DECISIONS_MISSED: types.DecisionsMissed,
    Kind.ASSIGNMENT_ADDED: types.AssignmentChanged,
    Kind.ASSIGNMENT_REVOKED: types.AssignmentChanged,
    Kind.GAIN_HELD: types.GainHeld,
    Kind.GAIN_RELEASED: types.GainReleased,
    Kind.DUTIES_REPORTED: types.DutiesReported,
    Kind.ADMIN_GRANT_ADDED: types.AdminGrantChanged,
    Kind.ADMIN_GRANT_REVOKED: types.AdminGrantChanged,
    Kind.PROPOSAL_MADE: types.Proposal,
    Kind.PROPOSAL_DECIDED: types.Proposal,
    Kind.APPLICATION_CREATED: types.ApplicationChanged,
    Kind.APPLICATION_CHANGED: types.ApplicationChanged,
    Kind.APPLICATION_FACE_CHANGED: types.ApplicationChanged,
    Kind.ACCOUNT_LINKED: types.ApplicationChanged,
    Kind.APPLICATION_SECRET_SET: types.ApplicationChanged,
    Kind.RESOURCES_REGISTERED: types.ResourcesRegistered,
    Kind.DIRECTORY_CHANGED: types.DirectoryChanged,
    Kind.SYNC_STARTED: types.SyncStarted,
    Kind.SYNC_FINISHED: types.SyncEnded,
    Kind.SYNC_HELD: types.SyncEnded,
    Kind.SYNC_FAILED: types.SyncEnded,
    Kind.SYNC_APPROVED: types.SyncRun,
    Kind.SYNC_REJECTED: types.SyncRun,
    Kind.SYNC_UNDONE: types.SyncUndone,
    Kind.SYNC_DECIDED: types.SyncDecided,
    Kind.KEY_CREATED: types.KeyCreated,
    Kind.REPORT_MADE: types.ReportMade,
    Kind.REPORT_READ: types.ReportRead,
    Kind.ALARM_RAISED: types.AlarmRaised,
    Kind.AUDIT_SEARCHED: types.Searched,
    Kind.HISTORY_RESTORED: proof_types.HistoryRestored,
    Kind.EVIDENCE_ASKED: proof_types.EvidenceAsked,
    Kind.EVIDENCE_MADE: proof_types.EvidenceMade,
    Kind.EVIDENCE_READ: proof_types.EvidenceRead,
    Kind.AUDIT_EXPORTED: types.Exported,
    Kind.SEARCH_SAVED: types.SearchSaved,
    Kind.AUDIT_REDACTED: types.Redacted,
    Kind.AUDIT_PURGED: types.Purged,
    Kind.ANCHOR_LATE: types.AnchorGap,
    Kind.ANCHOR_RECOVERED: types.AnchorGap,
}


def payload_of(kind: Kind) -> type:
    """The type of `data` in records of this kind, a TypedDict; raises `KeyError` for a kind that declares none."""
    area, noun, _ = kind.value.split(".")
    if kind in _NOTHING:
        return types.Nothing
    return _OF_KIND.get(kind) or _OF_AREA.get(f"{area}.{noun}") or _OF_AREA[area]
