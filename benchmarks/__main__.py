"""Run the figures whose names start with ONLY (or the first argument); all without one."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from benchmarks import audit, backlog, decide, doors, faults, oauth, policy, search, sync, sync_demo, sync_live
from benchmarks.figure import figure, rate

FIGURES: Mapping[str, Callable[[], Iterable[dict[str, Any]]]] = {
    **policy.FIGURES,
    **decide.FIGURES,
    **audit.FIGURES,
    **backlog.FIGURES,
    **search.FIGURES,
    **oauth.FIGURES,
    **doors.FIGURES,
    **sync_demo.FIGURES,
    **sync.FIGURES,
    **sync_live.FIGURES,
    **faults.FIGURES,
}


def calibration() -> dict[str, Any]:
    """How fast this machine is: SHA-256 of 1 kB a second on one core."""
    block = b"x" * 1_024

    def act() -> int:
        for _ in range(100_000):
            hashlib.sha256(block).digest()
        return 100_000

    value, n = rate(act)
    return figure("calibration.sha256", value, "hashes/s", n)


def main() -> None:
    only = os.environ.get("ONLY") or (sys.argv[1] if len(sys.argv) > 1 else "")
    print(json.dumps(calibration()), flush=True)
    for name, measure in FIGURES.items():
        if name.startswith(only) or only.startswith(name):
            for line in measure():
                print(json.dumps(line, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
