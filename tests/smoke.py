"""The main job, end to end, as outside clients do it: `python -m tests.smoke`. One line a step."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.servers.slapd import Slapd
from tests.smoke_steps import steps
from tests.smoke_steps.instance import Instance

Step = Callable[[Instance], None]

STEPS: tuple[tuple[str, Step], ...] = (
    ("sync", steps.sync),
    ("login", steps.login),
    ("oidc", steps.oidc),
    ("saml", steps.saml),
    ("cas", steps.cas),
    ("api-token", steps.api_token),
    ("decide-permit", steps.decide_permit),
    ("decide-deny", steps.decide_deny),
    ("sod-block", steps.sod_block),
    ("limit-scope", steps.limit_scope),
    ("mapping-change", steps.mapping_change),
    ("decide-after-change", steps.decide_after_change),
    ("audit-found", steps.audit_found),
    ("logout-everywhere", steps.logout_everywhere),
    ("leaver", steps.leaver),
    ("audit-verify", steps.audit_verify),
)
"""In this order; the server starts behind the first, which speaks to the directory."""


def main() -> int:
    failed = 0
    with tempfile.TemporaryDirectory(prefix="tessera-smoke-") as name, Slapd(Path(name) / "slapd") as slapd:
        instance = Instance(Path(name), slapd)
        try:
            instance.prepare()
            for number, (title, step) in enumerate(STEPS):
                if number == 1:
                    instance.serve()
                failed += not _run(title, step, instance)
        finally:
            instance.stop()
            if failed:
                sys.stdout.write(f"{instance.logs()}\n")
    sys.stdout.write(f"{len(STEPS) - failed} passed, {failed} failed\n")
    return 1 if failed else 0


def _run(title: str, step: Step, instance: Instance) -> bool:
    started = time.monotonic()
    try:
        step(instance)
    except Exception as error:  # noqa: BLE001  one failing step must not hide the others
        sys.stdout.write(f"FAIL {title} {(time.monotonic() - started) * 1_000:.0f} ms: {error!r}\n"[:2_000])
        return False
    sys.stdout.write(f"ok {title} {(time.monotonic() - started) * 1_000:.0f} ms\n")
    sys.stdout.flush()
    return True


if __name__ == "__main__":
    sys.exit(main())
