"""The catalogue of audit records: what they are called, how long they are kept, how they read."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache


class Kind(StrEnum):
    """`area.noun.verb`; the values are stored for ever, so they never change their meaning."""

    SESSION_STARTED = "login.session.started"
    SESSION_RENEWED = "login.session.renewed"
    SESSION_REFUSED = "login.session.refused"
    SESSION_ENDED = "login.session.ended"
    SIGN_IN_COMPLETED = "login.application.entered"
    SIGN_IN_REFUSED = "login.application.refused"
    FACTOR_ENROLLED = "login.factor.enrolled"
    FACTOR_REMOVED = "login.factor.removed"
    CREDENTIALS_FORGOTTEN = "login.credentials.forgotten"
    FACTOR_REFUSED = "login.factor.refused"
    RECOVERY_CODE_USED = "login.recovery_code.used"
    PASSWORD_CHANGED = "login.password.changed"  # noqa: S105
    SETUP_TOKEN_ISSUED = "login.setup_token.issued"  # noqa: S105
    SETUP_TOKEN_REFUSED = "login.setup_token.refused"  # noqa: S105
    CONSENT_GIVEN = "login.consent.given"
    CONSENT_WITHDRAWN = "login.consent.withdrawn"
    RECOVERY_CODES_MADE = "login.recovery_codes.made"

    CODE_ISSUED = "oauth.code.issued"
    TOKEN_ISSUED = "oauth.token.issued"  # noqa: S105
    TOKEN_REFRESHED = "oauth.token.refreshed"  # noqa: S105
    TOKEN_REFUSED = "oauth.token.refused"  # noqa: S105
    TOKEN_REVOKED = "oauth.token.revoked"  # noqa: S105
    TOKEN_INTROSPECTED = "oauth.token.introspected"  # noqa: S105
    USERINFO_RELEASED = "oauth.userinfo.released"
    AUTHORIZATION_REFUSED = "oauth.authorization.refused"

    ASSERTION_ISSUED = "saml.assertion.issued"
    SAML_REQUEST_REFUSED = "saml.request.refused"

    TICKET_ISSUED = "cas.ticket.issued"
    TICKET_VALIDATED = "cas.ticket.validated"
    TICKET_REFUSED = "cas.ticket.refused"
    CAS_REQUEST_REFUSED = "cas.request.refused"

    FORWARD_STARTED = "forward.session.started"
    FORWARD_REFUSED = "forward.request.refused"

    DECISION_MADE = "access.decision.made"
    DECISIONS_MADE = "access.decisions.made"
    SEARCH_MADE = "access.search.made"
    DECISIONS_MISSED = "access.decisions.missed"
    CALLER_REFUSED = "access.caller.refused"
    BUNDLE_READ = "access.bundle.read"
    DECISIONS_REPORTED = "access.decisions.reported"

    USER_CREATED = "people.user.created"
    USER_ENABLED = "people.user.enabled"
    USER_DISABLED = "people.user.disabled"
    USER_DELETED = "people.user.deleted"
    USER_RENAMED = "people.user.renamed"
    USER_LINKED = "people.user.linked"
    USER_PROFILE_CHANGED = "people.profile.changed"
    ORG_UNIT_CREATED = "people.org_unit.created"
    ORG_UNIT_CHANGED = "people.org_unit.changed"
    EMPLOYMENT_CHANGED = "people.employment.changed"
    GROUP_CREATED = "people.group.created"
    GROUP_CHANGED = "people.group.changed"
    GROUP_MEMBER_ADDED = "people.group_member.added"
    GROUP_MEMBER_REMOVED = "people.group_member.removed"
    GROUP_NESTED = "people.group.nested"
    GROUP_UNNESTED = "people.group.unnested"

    ROLE_CREATED = "roles.role.created"
    ROLE_CHANGED = "roles.role.changed"
    ASSIGNMENT_ADDED = "roles.assignment.added"
    ASSIGNMENT_REVOKED = "roles.assignment.revoked"
    POLICY_PUBLISHED = "roles.policy.published"
    DRAFT_CREATED = "roles.draft.created"
    DRAFT_CHANGED = "roles.draft.changed"
    DRAFT_REBASED = "roles.draft.rebased"
    DRAFT_DISCARDED = "roles.draft.discarded"
    DRAFT_PROPOSED = "roles.draft.proposed"
    DRAFT_WITHDRAWN = "roles.draft.withdrawn"
    DRAFT_DECIDED = "roles.draft.decided"
    SECOND_PERSON_PROPOSED = "roles.second_person.proposed"
    SECOND_PERSON_DECIDED = "roles.second_person.decided"
    POLICY_CHECKED = "roles.check.asked"
    GAIN_HELD = "roles.gain.held"
    GAIN_RELEASED = "roles.gain.released"
    MITIGATION_ADDED = "roles.mitigation.added"
    MITIGATION_ENDED = "roles.mitigation.ended"
    DUTIES_REPORTED = "roles.duties.reported"
    ADMIN_GRANT_ADDED = "roles.admin_grant.added"
    ADMIN_GRANT_REVOKED = "roles.admin_grant.revoked"
    PROPOSAL_MADE = "roles.proposal.made"
    PROPOSAL_DECIDED = "roles.proposal.decided"

    APPLICATION_CREATED = "apps.application.created"
    APPLICATION_CHANGED = "apps.application.changed"
    APPLICATION_FACE_CHANGED = "apps.protocol.changed"
    ACCOUNT_LINKED = "apps.account.linked"
    RESOURCES_REGISTERED = "apps.resources.registered"
    APPLICATION_SECRET_SET = "apps.secret.set"  # noqa: S105

    SHIPPING_CHANGED = "shipping.target.changed"
    DIRECTORY_CHANGED = "sync.directory.changed"
    SYNC_STARTED = "sync.run.started"
    SYNC_FINISHED = "sync.run.finished"
    SYNC_HELD = "sync.run.held"
    SYNC_FAILED = "sync.run.failed"
    SYNC_APPROVED = "sync.run.approved"
    SYNC_REJECTED = "sync.run.rejected"
    SYNC_UNDONE = "sync.run.undone"
    SYNC_RESUMED = "sync.directory.resumed"
    SYNC_DECIDED = "sync.conflict.decided"
    WRITE_BACK_DONE = "sync.write_back.done"
    WRITE_BACK_FAILED = "sync.write_back.failed"
    WRITE_BACK_OVERTAKEN = "sync.write_back.overtaken"
    WRITE_BACK_RETRIED = "sync.write_back.retried"
    WRITE_BACK_DROPPED = "sync.write_back.dropped"

    KEY_CREATED = "keys.key.created"
    KEY_ROTATED = "keys.key.rotated"

    REPORT_MADE = "reports.report.made"
    REPORT_READ = "reports.report.read"
    HOLDINGS_READ = "reports.holdings.read"
    CHECK_EXPORTED = "reports.check.exported"
    SCHEDULE_CHANGED = "reports.schedule.changed"
    ALARM_RAISED = "alarms.alarm.raised"
    ALARM_SEEN = "alarms.alarm.acknowledged"
    ALARM_SET = "alarms.rule.changed"

    AUDIT_SEARCHED = "audit.record.searched"
    SEARCH_SAVED = "audit.search.saved"
    AUDIT_EXPORTED = "audit.record.exported"
    AUDIT_READ = "audit.record.read"
    EVIDENCE_ASKED = "audit.evidence.asked"
    EVIDENCE_MADE = "audit.evidence.made"
    EVIDENCE_READ = "audit.evidence.read"
    DECISION_EXPLAINED = "audit.decision.explained"
    AUDIT_REDACTED = "audit.personal.redacted"
    AUDIT_PURGED = "audit.records.purged"
    RETENTION_CHANGED = "audit.retention.changed"
    HISTORY_RESTORED = "audit.history.restored"
    ANCHOR_LATE = "audit.anchor.late"
    ANCHOR_RECOVERED = "audit.anchor.recovered"


_CLASS_OF_AREA: Mapping[str, str] = {
    "login": "login",
    "oauth": "token",
    "saml": "token",
    "cas": "token",
    "forward": "token",
    "access": "decision",
    "people": "change",
    "roles": "change",
    "apps": "change",
    "keys": "change",
    "shipping": "change",
    "sync": "sync",
    "audit": "reading",
    "reports": "reading",
    "alarms": "change",
}
CLASSES = tuple(sorted(set(_CLASS_OF_AREA.values())))


@cache
def class_of(kind: str) -> str:
    """The retention class of a kind."""
    return _CLASS_OF_AREA[kind.partition(".")[0]]


# One sentence a kind; {actor} and {person} are names, other words come from the record. The English sentence is the
# message id of the Chinese one.
SENTENCES: Mapping[Kind, str] = {
    Kind.SESSION_STARTED: "{actor} signed in",
    Kind.SESSION_RENEWED: "{actor} signed in again",
    Kind.SESSION_REFUSED: "A sign-in as {login} was refused",
    Kind.SESSION_ENDED: "A session of {person} ended",
    Kind.SIGN_IN_COMPLETED: "{actor} entered {application}",
    Kind.SIGN_IN_REFUSED: "{actor} was not let into {application}",
    Kind.FACTOR_ENROLLED: "{actor} added a second factor",
    Kind.FACTOR_REMOVED: "A second factor of {person} was removed",
    Kind.CREDENTIALS_FORGOTTEN: "What {person} could sign in with was removed",
    Kind.FACTOR_REFUSED: "A second factor of {person} was refused",
    Kind.RECOVERY_CODE_USED: "{actor} used a recovery code",
    Kind.PASSWORD_CHANGED: "{actor} changed the password of {person}",
    Kind.SETUP_TOKEN_ISSUED: "{actor} invited {person} as an administrator",
    Kind.SETUP_TOKEN_REFUSED: "A one-time token for {login} was refused",
    Kind.CONSENT_GIVEN: "{actor} agreed to what {application} asks for",
    Kind.CONSENT_WITHDRAWN: "{actor} no longer agrees to what {application} asks for",
    Kind.RECOVERY_CODES_MADE: "{actor} made new recovery codes",
    Kind.CODE_ISSUED: "{application} got an authorization code for {person}",
    Kind.TOKEN_ISSUED: "{application} got a token",
    Kind.TOKEN_REFRESHED: "{application} refreshed a token",
    Kind.TOKEN_REFUSED: "{application} was refused a token",
    Kind.TOKEN_REVOKED: "{application} revoked a token",
    Kind.TOKEN_INTROSPECTED: "{application} asked about a token",
    Kind.USERINFO_RELEASED: "{application} read the profile of {person}",
    Kind.AUTHORIZATION_REFUSED: "An authorization request of {application} was refused",
    Kind.ASSERTION_ISSUED: "{application} got an assertion for {person}",
    Kind.SAML_REQUEST_REFUSED: "A SAML request of {application} was refused",
    Kind.TICKET_ISSUED: "{application} got a service ticket for {person}",
    Kind.TICKET_VALIDATED: "{application} validated a service ticket",
    Kind.TICKET_REFUSED: "{application} presented a ticket that was refused",
    Kind.CAS_REQUEST_REFUSED: "A CAS request was refused",
    Kind.FORWARD_STARTED: "{person} has a session at a proxied host of {application}",
    Kind.FORWARD_REFUSED: "A request of the proxy of {application} was refused",
    Kind.DECISION_MADE: "{application} asked whether {person} may {action} {resource}",
    Kind.DECISIONS_MADE: "{application} asked for several decisions",
    Kind.SEARCH_MADE: "{application} searched who may do what",
    Kind.DECISIONS_MISSED: "Decisions for {application} could not be recorded",
    Kind.CALLER_REFUSED: "A caller did not prove itself",
    Kind.BUNDLE_READ: "{application} read what it may decide itself",
    Kind.DECISIONS_REPORTED: "{application} reported decisions of its own",
    Kind.USER_CREATED: "{actor} created the user {login}",
    Kind.USER_ENABLED: "{actor} enabled the user {login}",
    Kind.USER_DISABLED: "{actor} disabled the user {login}",
    Kind.USER_DELETED: "{actor} deleted the user {login}",
    Kind.USER_RENAMED: "{actor} renamed the user {login}",
    Kind.USER_LINKED: "{actor} linked a directory account to {login}",
    Kind.USER_PROFILE_CHANGED: "{actor} changed the profile of {login}",
    Kind.ORG_UNIT_CREATED: "{actor} created the unit {object}",
    Kind.ORG_UNIT_CHANGED: "{actor} changed the unit {object}",
    Kind.EMPLOYMENT_CHANGED: "{actor} changed the employment of {login}",
    Kind.GROUP_CREATED: "{actor} created the group {group}",
    Kind.GROUP_CHANGED: "{actor} changed the group {group}",
    Kind.GROUP_MEMBER_ADDED: "{actor} put {person} into the group {group}",
    Kind.GROUP_MEMBER_REMOVED: "{actor} took {person} out of the group {group}",
    Kind.GROUP_NESTED: "{actor} nested a group in {group}",
    Kind.GROUP_UNNESTED: "{actor} took a group out of {group}",
    Kind.ROLE_CREATED: "{actor} created the role {object}",
    Kind.ROLE_CHANGED: "{actor} changed the role {object}",
    Kind.ASSIGNMENT_ADDED: "{actor} assigned the role {object} to {person}",
    Kind.ASSIGNMENT_REVOKED: "{actor} took the role {object} from {person}",
    Kind.POLICY_PUBLISHED: "{actor} published policy version {object}",
    Kind.DRAFT_CREATED: "{actor} began a draft, policy version {object}",
    Kind.DRAFT_CHANGED: "{actor} changed the draft {object}",
    Kind.DRAFT_REBASED: "{actor} brought a draft up to date, now {object}",
    Kind.DRAFT_DISCARDED: "{actor} discarded the draft {object}",
    Kind.DRAFT_PROPOSED: "{actor} proposed to publish the draft {object}",
    Kind.DRAFT_WITHDRAWN: "{actor} withdrew the proposed draft {object}",
    Kind.DRAFT_DECIDED: "{actor} decided on the draft {object}",
    Kind.SECOND_PERSON_PROPOSED: "{actor} proposed to change whether a second person publishes rules",
    Kind.SECOND_PERSON_DECIDED: "{actor} decided whether a second person publishes rules",
    Kind.POLICY_CHECKED: "{actor} asked what policy version {object} would do",
    Kind.GAIN_HELD: "The role {object} was held back from {person}: it would join separated duties",
    Kind.GAIN_RELEASED: "The role {object} is no longer held back from {person}",
    Kind.MITIGATION_ADDED: "{actor} accepted that {person} breaks the duty rule {object}, under a control",
    Kind.MITIGATION_ENDED: "{actor} ended the control for the duty rule {object} of {person}",
    Kind.DUTIES_REPORTED: "Separated duties were checked",
    Kind.ADMIN_GRANT_ADDED: "{actor} gave a right to grant roles",
    Kind.ADMIN_GRANT_REVOKED: "{actor} took a right to grant roles away",
    Kind.PROPOSAL_MADE: "{actor} proposed the administration role {object} for {person}",
    Kind.PROPOSAL_DECIDED: "{actor} decided on the administration role {object} for {person}",
    Kind.APPLICATION_CREATED: "{actor} created the application {application}",
    Kind.APPLICATION_CHANGED: "{actor} changed the application {application}",
    Kind.APPLICATION_FACE_CHANGED: "{actor} changed how {application} signs in",
    Kind.ACCOUNT_LINKED: "{actor} changed how {application} knows {person}",
    Kind.RESOURCES_REGISTERED: "{application} registered resources",
    Kind.APPLICATION_SECRET_SET: "{actor} set a secret of {application}",
    Kind.SHIPPING_CHANGED: "{actor} changed where the record is shipped to",
    Kind.DIRECTORY_CHANGED: "{actor} changed the directory {object}",
    Kind.SYNC_STARTED: "A sync of {object} started",
    Kind.SYNC_FINISHED: "A sync of {object} finished",
    Kind.SYNC_HELD: "A sync of {object} was held",
    Kind.SYNC_FAILED: "A sync of {object} failed",
    Kind.SYNC_APPROVED: "{actor} approved a held sync of {object}",
    Kind.SYNC_REJECTED: "{actor} rejected a held sync of {object}",
    Kind.SYNC_UNDONE: "{actor} took a sync of {object} back",
    Kind.SYNC_RESUMED: "{actor} resumed the sync of {object}",
    Kind.SYNC_DECIDED: "{actor} decided a conflict of {object}",
    Kind.WRITE_BACK_DONE: "A change of {login} was written to {object}",
    Kind.WRITE_BACK_FAILED: "A change of {login} could not be written to {object}",
    Kind.WRITE_BACK_OVERTAKEN: "A change of {login} was not written: {object} has a newer value",
    Kind.WRITE_BACK_RETRIED: "{actor} let a change of {login} be written to {object} again",
    Kind.WRITE_BACK_DROPPED: "{actor} dropped a change of {login} that waited for {object}",
    Kind.KEY_CREATED: "{actor} created a key for {object}",
    Kind.KEY_ROTATED: "{actor} rotated the key for {object}",
    Kind.REPORT_MADE: "{actor} made a report",
    Kind.REPORT_READ: "{actor} read a report",
    Kind.HOLDINGS_READ: "{actor} looked up who held what",
    Kind.CHECK_EXPORTED: "{actor} exported what policy version {object} would do",
    Kind.SCHEDULE_CHANGED: "{actor} changed the schedule of a report",
    Kind.ALARM_RAISED: "An alarm was raised: {object}",
    Kind.ALARM_SEEN: "{actor} acknowledged an alarm",
    Kind.ALARM_SET: "{actor} changed the alarm {object}",
    Kind.AUDIT_SEARCHED: "{actor} searched the audit",
    Kind.SEARCH_SAVED: "{actor} changed a saved search",
    Kind.AUDIT_EXPORTED: "{actor} exported audit records",
    Kind.AUDIT_READ: "{actor} read an audit record",
    Kind.EVIDENCE_ASKED: "{actor} asked for an evidence pack",
    Kind.EVIDENCE_MADE: "An evidence pack was made",
    Kind.EVIDENCE_READ: "{actor} downloaded an evidence pack",
    Kind.DECISION_EXPLAINED: "{actor} read why {person} may or may not {action} {resource}",
    Kind.AUDIT_REDACTED: "{actor} erased personal values of an audit record",
    Kind.AUDIT_PURGED: "Audit records of {object} were removed after their retention",
    Kind.RETENTION_CHANGED: "The retention of the audit was changed",
    Kind.HISTORY_RESTORED: "{actor} stated that the database was restored from a backup: later records are lost",
    Kind.ANCHOR_LATE: "Audit records wait too long for their anchor",
    Kind.ANCHOR_RECOVERED: "Audit records reach their anchor again",
}
