"""The console's own rules: three built-in administration roles (三员分立), the same in every policy version."""

from __future__ import annotations

from identity.roles.mapping import CONSOLE_APPLICATION
from policies import Permission, StaticDuty

SYSTEM_ADMIN = f"{CONSOLE_APPLICATION}:system-admin"
SECURITY_ADMIN = f"{CONSOLE_APPLICATION}:security-admin"
AUDIT_ADMIN = f"{CONSOLE_APPLICATION}:audit-admin"
CONSOLE_ROLES = {
    SYSTEM_ADMIN: "System administrator",
    SECURITY_ADMIN: "Security administrator",
    AUDIT_ADMIN: "Audit administrator",
}

_RIGHTS: dict[str, dict[str, tuple[str, ...]]] = {
    SYSTEM_ADMIN: {
        "read": (
            "user",
            "group",
            "org_unit",
            "directory",
            "sync",
            "application",
            "session",
            "setting",
            "key",
            "administrator",
        ),
        "write": ("directory", "session", "setting", "key"),
        "approve": ("administrator",),
        "run": ("sync",),
    },
    SECURITY_ADMIN: {
        "read": (
            *("user", "group", "org_unit", "role", "assignment", "mapping", "policy"),
            *("application", "session", "directory", "sync"),
            *("duty", "admin_grant", "administrator", "decision"),
        ),
        "approve": ("administrator", "policy"),
        "write": (
            *("duty", "admin_grant", "administrator"),
            "user",
            "group",
            "role",
            "assignment",
            "mapping",
            "policy",
            "application",
            "session",
        ),
    },
    AUDIT_ADMIN: {
        "read": (
            *(
                "audit",
                "user",
                "group",
                "org_unit",
                "role",
                "assignment",
                "mapping",
                "policy",
            ),
            *("application", "session", "directory", "sync"),
            *("duty", "admin_grant", "administrator", "decision"),
        ),
        "export": ("audit",),
    },
}


def _permission(role: str, resource_type: str, action: str) -> Permission:
    return Permission(
        id=f"built-in:{role.partition(':')[2]}:{resource_type}:{action}",
        role=role,
        application=CONSOLE_APPLICATION,
        resource_type=resource_type,
        pattern="**",
        action=action,
        effect="permit",
        condition=None,
        obligations=(),
        inherited=False,
        valid_from=None,
        valid_until=None,
    )


BUILT_IN_PERMISSIONS = tuple(
    _permission(role, resource_type, action)
    for role, rights in _RIGHTS.items()
    for action, types in rights.items()
    for resource_type in types
) + tuple(_permission(role, "application", "sso") for role in _RIGHTS)

BUILT_IN_DUTY = StaticDuty("built-in:three-administrators", tuple(_RIGHTS), 2, "any")
