"""The pages of employees, administrators and auditors.

Owns: what pages show and how they look.
Does not own: any rule; every change is a service of its area.
"""

from identity.console.routes_apps import bp as apps_bp
from identity.console.routes_audit import bp as audit_bp
from identity.console.routes_drafts import bp as drafts_bp
from identity.console.routes_duties import bp as duties_bp
from identity.console.routes_evidence import bp as evidence_bp
from identity.console.routes_explain import bp as explain_bp
from identity.console.routes_grants import bp as grants_bp
from identity.console.routes_holdings import bp as holdings_bp
from identity.console.routes_people import bp as people_bp
from identity.console.routes_policy import bp as policy_bp
from identity.console.routes_portal import bp as portal_bp
from identity.console.routes_proof import bp as proof_bp
from identity.console.routes_reports import bp as reports_bp
from identity.console.routes_roles import bp as roles_bp
from identity.console.routes_sync import bp as sync_bp
from identity.console.routes_write_back import bp as write_back_bp

blueprints = (
    portal_bp,
    people_bp,
    sync_bp,
    write_back_bp,
    roles_bp,
    grants_bp,
    duties_bp,
    policy_bp,
    drafts_bp,
    holdings_bp,
    apps_bp,
    audit_bp,
    evidence_bp,
    explain_bp,
    proof_bp,
    reports_bp,
)

__all__ = ["blueprints"]
