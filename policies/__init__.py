"""The decision library: rules and facts in, a decision with its reasons out.

Owns: the semantics of roles, permissions, conditions, scopes, limits and separation of duty.
Does not own: where rules and facts come from, the clock, recording; it has no I/O and can live inside any app.
"""

from policies.compare import Change, Right, Terms, compare
from policies.conditions import Condition, compile_condition
from policies.engine import Engine, PreparedSubject
from policies.held import is_valid
from policies.separation import Conflict, StaticDuties, static_conflicts
from policies.trace import Check, Way, role_path, trace
from policies.types import (
    ANYWHERE,
    Act,
    Action,
    Activation,
    Amount,
    Carrier,
    Decision,
    DynamicDuty,
    Grant,
    ObjectDuty,
    Permission,
    Request,
    Resource,
    RuleSet,
    Scope,
    Side,
    StaticDuty,
)
from policies.validate import validate

__all__ = [
    "ANYWHERE",
    "Act",
    "Action",
    "Activation",
    "Amount",
    "Carrier",
    "Change",
    "Check",
    "Condition",
    "Conflict",
    "Decision",
    "DynamicDuty",
    "Engine",
    "Grant",
    "ObjectDuty",
    "Permission",
    "PreparedSubject",
    "Request",
    "Resource",
    "Right",
    "RuleSet",
    "Scope",
    "Side",
    "StaticDuties",
    "StaticDuty",
    "Terms",
    "Way",
    "compare",
    "compile_condition",
    "is_valid",
    "role_path",
    "static_conflicts",
    "trace",
    "validate",
]
