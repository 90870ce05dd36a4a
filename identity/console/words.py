"""Codes as words: what states, kinds and reason codes are called for people, in English as message ids.

A reason code is stable and written down for ever; its sentence may improve. Both are shown: the sentence to be
understood, the code to be searched for.
"""

from __future__ import annotations

from collections.abc import Mapping

from identity.access.console import CONSOLE_ROLES
from identity.audit.kinds import SENTENCES, Kind
from identity.core.i18n import gettext
from identity.core.i18n import gettext_noop as _

LABELS: Mapping[str, str] = {
    # States of users, applications, directories and runs.
    "True": _("yes"),
    "False": _("no"),
    "active": _("active"),
    "disabled": _("disabled"),
    "deleted": _("deleted"),
    "present": _("present"),
    "missing": _("missing"),
    "quarantined": _("quarantined"),
    "running": _("running"),
    "applied": _("applied"),
    "planned": _("planned"),
    "held": _("held by the guard"),
    "failed": _("failed"),
    "applying": _("being applied"),
    "rejected": _("rejected"),
    "superseded": _("superseded"),
    "queued": _("waiting"),
    "ready": _("ready"),
    "gone": _("no longer kept"),
    "undone": _("taken back"),
    "waiting": _("waits"),
    "newer": _("newer there"),
    # Results.
    "success": _("success"),
    "permit": _("permit"),
    "deny": _("deny"),
    "refused": _("refused"),
    # What a role comes from.
    "group": _("Group"),
    "position": _("Position"),
    "unit": _("Unit"),
    "business_role": _("Business role"),
    "user": _("User"),
    "role": _("Role"),
    "assignment": _("Assignment"),
    "mapping": _("Mapping"),
    "permission": _("Permission"),
    "record": _("Record"),
    "decision": _("Decision"),
    "person": _("Person"),
    # What a way is checked for.
    "validity": _("Validity of the role"),
    "rule_validity": _("Validity of the permission"),
    "scope": _("Scope"),
    "limit": _("Limit"),
    "condition": _("Condition"),
    "duty": _("Duties of the session"),
    # Kinds of planned changes.
    "department_add": _("Department added"),
    "department_update": _("Department changed"),
    "department_remove": _("Department abolished"),
    "user_add": _("User added"),
    "user_link": _("User linked"),
    "user_update": _("User changed"),
    "user_move": _("User moved"),
    "user_groups": _("User’s groups changed"),
    "user_disable": _("User disabled"),
    "user_missing": _("Entry missing"),
    "user_delete": _("User deleted"),
    "user_enable": _("User enabled"),
    "group_add": _("Group added"),
    "group_update": _("Group changed"),
    "group_remove": _("Group removed"),
    "group_nest": _("Group nested"),
    # Fields of a planned change.
    "login": _("login"),
    "name": _("name"),
    "family_name": _("family name"),
    "given_name": _("given name"),
    "mail": _("mail"),
    "phone": _("phone"),
    "company": _("company"),
    "department": _("department"),
    "employee_number": _("employee number"),
    "manager": _("manager"),
    "valid_until": _("valid until"),
    "groups": _("groups"),
    "state": _("state"),
    "add": _("joins"),
    "remove": _("leaves"),
    "code": _("code"),
    "title": _("title"),
    "conflict": _("Conflict"),
    # Drafts of the rules, their parts, and what checks found.
    "editing": _("being written"),
    "proposed": _("waits for a second person"),
    "published": _("published"),
    "discarded": _("discarded"),
    "permissions": _("Permissions"),
    "inheritance": _("Inheritance"),
    "mappings": _("Role mappings"),
    "duties": _("Separated duties"),
    "already": _("Decision, already so by the rules in force"),
    # Modes of a run.
    "apply": _("Run"),
    "dry_run": _("Dry run"),
    "undo": _("Undo"),
    "check": _("Consistency check"),
    # Surfaces of a session.
    "sso": _("Single sign-on"),
    "admin": _("Console"),
    # Kinds of directories.
    "openldap": "OpenLDAP",
    "active_directory": "Active Directory",
    "ldif": _("LDIF file"),
    "ldap": "LDAP",
    "csv": _("CSV table"),
    "xlsx": _("Excel table"),
    # Who acts.
    "application": _("application"),
    "system": _("system"),
    "anonymous": _("nobody known"),
    # Why a copy of the policy cannot decide.
    "ask_duty": _("separation of duty"),
    "ask_limit": _("limit"),
    "ask_obligation": _("obligation"),
    "ask_condition": _("condition on the person"),
    # How a token endpoint's caller proves itself.
    "client_secret_basic": _("client secret, HTTP Basic"),
    "client_secret_post": _("client secret in the form"),
    "none": _("none (public client, PKCE)"),
}

AREAS: Mapping[str, str] = {
    "login": _("Sign-in"),
    "oauth": "OAuth 2 / OpenID Connect",
    "saml": "SAML 2.0",
    "cas": "CAS",
    "forward": _("Proxies"),
    "access": _("Decisions"),
    "people": _("People"),
    "roles": _("Roles and rules"),
    "apps": _("Applications"),
    "sync": _("Directories"),
    "keys": _("Keys"),
    "audit": _("Audit"),
}

# What the console says of a person's field that an application may learn.
CLAIMS: Mapping[str, str] = {
    "sub": _("stable identifier"),
    "preferred_username": _("user name"),
    "name": _("full name"),
    "given_name": _("given name"),
    "family_name": _("family name"),
    "email": _("mail address"),
    "email_verified": _("whether the mail address is verified"),
    "phone_number": _("phone number"),
    "employee_number": _("employee number"),
    "dept_code": _("department code"),
    "dept_name": _("department name"),
    "dept_path": _("department path"),
    "company_code": _("company code"),
    "position": _("position"),
    "roles": _("roles in this application"),
    "groups": _("groups"),
    "locale": _("language"),
}

REASONS: Mapping[str, str] = {
    # Decisions.
    "permitted": _("A rule permits this."),
    "no_permission": _("No role of this person permits this."),
    "denied": _("A rule denies this."),
    "expired": _("The permission or the role is not valid at this time."),
    "scope": _("This lies outside the role's scope (company, unit or business type)."),
    "scope_missing": _("The role has a scope, and the application did not say where this belongs."),
    "currency": _("The amount is in another currency than the role's limit."),
    "limit": _("The amount exceeds the role's limit."),
    "limit_missing": _("The role has a limit, and the application did not state an amount."),
    "condition": _("The rule's condition is not met."),
    "sod_object": _("Separation of duty: this person did another step of the same object."),
    "sod_evidence_missing": _("Separation of duty: no earlier step of this object is known."),
    "sod_dynamic": _("Separation of duty: a conflicting role was used in this session."),
    "sod_static": _("Separation of duty: these roles may not be held together."),
    "subject_unknown": _("The application named nobody whom we know."),
    "subject_disabled": _("The account is disabled."),
    "subject_expired": _("The account is no longer valid."),
    "resource_invalid": _("The name of the resource is not in its normal form."),
    # Why a mapping row gave nothing.
    "mapping_source": _("The person is not in its source."),
    "mapping_condition": _("The person does not meet its condition."),
    "mapping_excluded": _("Another mapping excludes the person."),
    "gain_held": _("It is held back: it would join separated duties."),
    "mapping_scope": _("Nothing is left of its scope or limit."),
    # Sign-in.
    "unknown_user": _("Nobody has this user name."),
    "wrong_password": _("The password is wrong."),
    "blocked": _("Too many failed attempts; this name or address must wait."),
    "locked": _("The directory has locked the account."),
    "unwilling": _("The directory does not let the account sign in."),
    "held_back": _("The directory was not asked: one failure more could lock the account there."),
    "not_due": _("A password that need not be changed was to be changed."),
    "must_change": _("The password must be changed in the directory first."),
    "user_inactive": _("The account may not act at this time."),
    "wrong_code": _("The code of the second factor is wrong."),
    "login_required": _("The person must sign in, and the application did not allow to ask."),
    "interaction_required": _("A step by the person is needed, and the application did not allow to ask."),
    "consent_required": _("The person must agree, and the application did not allow to ask."),
    "wrong_user": _("Another person is signed in than the application asked for."),
    "unmet_acr": _("The sign-in is not as strong as the application demands."),
    "access_denied": _("The policy does not let this person into the application."),
    "no_session": _("There is no session."),
    "no_transaction": _("The sign-in was begun in another browser or took too long."),
    "factor_exists": _("There is a second factor already."),
    "password_length": _("The new password is too short or too long."),
    "password_login": _("The new password contains the user name."),
    # Why a directory did not take a value (RFC 4511 appendix A).
    "insufficientAccessRights": _("Our account may not write this."),
    "constraintViolation": _("The directory does not take such a value."),
    "invalidAttributeSyntax": _("The directory does not take such a value."),
    "objectClassViolation": _("The directory does not let this be empty."),
    "unwillingToPerform": _("The server writes nothing: it may be a copy."),
    "referral": _("The server writes nothing: it may be a copy."),
    "several_values": _("The attribute has several values, and nobody knows which one is meant."),
    "missing": _("The directory no longer has this entry."),
    "off": _("This field is no longer written back."),
    "directory_secret": _("The directory's secret cannot be read."),
    "directory_unreachable": _("The directory cannot be reached."),
    # Ends of sessions.
    "logout": _("The person signed out."),
    "logout_everywhere": _("The person signed out everywhere."),
    "replaced": _("A new sign-in in the same browser took its place."),
    "stepped_up": _("It goes on as a session with a second factor."),
    "ended_by_user": _("The person ended it in “My account”."),
    "ended_by_admin": _("An administrator ended it."),
    "user_disabled": _("The account was disabled."),
    "factor_removed": _("The second factor was taken away."),
    "factor_changed": _("The second factor was changed."),
    "password_changed": _("The password was changed."),
    # Protocols.
    "invalid_client": _("The caller's credentials are wrong."),
    "unauthorized_client": _("This client may not use this grant."),
    "invalid_grant": _("The code or token is unknown, expired or used."),
    "invalid_scope": _("The scope is unknown or was not granted."),
    "invalid_target": _("This resource may not be asked for."),
    "invalid_token": _("The token is not valid."),
    "invalid_request": _("The request is malformed."),
    "invalid_xml": _("The message is not well-formed XML."),
    "invalid_saml": _("The SAML message is not valid."),
    "invalid_signature": _("The signature does not fit."),
    "replay": _("It was used already; the whole grant was revoked."),
    "already_used": _("It was used already."),
    "unknown_client": _("No such client is registered."),
    "unknown_sp": _("No such service provider is registered."),
    "saml_logout": _("A SAML service provider asked for the logout."),
    "unknown_session": _("There is no live session of this person there."),
    "unknown_logout": _("The answer belongs to no logout that was begun here."),
    "name_id_policy": _("The name asked for cannot be given."),
    "subject": _("The request does not name one person plainly."),
    "binding": _("The answer was asked for by a binding that is not offered."),
    "version": _("The message is not SAML 2.0."),
    "forward_host": _("The host is not registered for this application."),
    "forward_method": _("The host has no action for this method."),
    "unregistered_service": _("No such CAS service is registered."),
    "redirect_uri": _("The return address is not registered."),
    "account_disabled": _("The account in this application is disabled."),
    "no_right": _("The caller has no right to this."),
    "search_not_allowed": _("This application may not search."),
    "INVALID_REQUEST": _("The ticket or the service is missing."),
    "INVALID_TICKET": _("The ticket is unknown, expired or used."),
    "INVALID_SERVICE": _("The ticket was issued for another service."),
    "csrf": _("The request came from another site or an expired form."),
    # Administration.
    "forbidden": _("The administrator's roles do not include this."),
    "self_grant": _("Nobody grants a role to himself."),
    "administration_role": _("Administration roles are not assigned this way."),
    "target_rank": _("It is about an administrator, of whom nobody decides this alone."),
    "no_admin_grant": _("The administrator has no right to grant roles."),
    "grant_power": _("The right to grant does not include this."),
    "grant_role": _("The right to grant does not include this role, or what comes with it."),
    "grant_scope": _("The role would hold outside the scope of the right to grant."),
    "grant_target": _("The right to grant does not include these people."),
    "grant_limit": _("The limit is above that of the right to grant."),
    "grant_duration": _("The role would be held for longer than the right to grant allows."),
    "built_in": _("It is built in."),
    "admin_origin": _("The console is not served at this address."),
    "admin_network": _("The console is not served to this network."),
}

# Placeholders of an audit sentence where no record fills them: the sentence then names the kind.
_ANY: Mapping[str, str] = {
    "actor": _("somebody"),
    "person": _("somebody"),
    "application": _("an application"),
    "action": _("do something"),
    "object": _("something"),
    "resource": _("something"),
    "login": _("somebody"),
    "group": _("a group"),
}


def label(code: str | None) -> str:
    """The word for a state, kind or mode; the code itself where it has none."""
    return gettext(LABELS.get(code, code)) if code else ""


def reason(code: str | None) -> str:
    """The sentence for a reason code; empty where it has none."""
    return gettext(REASONS[code]) if code and code in REASONS else ""


def claim(name: str) -> str:
    """What a released field is called."""
    return gettext(CLAIMS.get(name, name))


def area(name: str) -> str:
    """What an area of the audit is called."""
    return gettext(AREAS.get(name, name))


def kind(name: str) -> str:
    """A kind of record as its sentence about nobody in particular."""
    return capital(fill(SENTENCES[Kind(name)], {})) if name in set(Kind) else name


def fill(sentence: str, words: Mapping[str, str | None]) -> str:
    """An audit sentence in the reader's language with these words; missing ones become “somebody”, “an application”."""
    return gettext(sentence).format_map({name: words.get(name) or gettext(any_) for name, any_ in _ANY.items()})


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def role_title(key: str, titles: Mapping[str, str]) -> str:
    """What a role is called beside its key; console roles have names of ours."""
    return gettext(CONSOLE_ROLES[key]) if key in CONSOLE_ROLES else titles.get(key, "")
