"""Directory sync on PostgreSQL against a real slapd that holds a generated company.

SYNC_USERS and SYNC_GROUPS change its size (100,000 and 5,000).
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import yaml

from benchmarks.figure import figure
from tests.servers.postgres import Postgres
from tests.servers.slapd import ADMIN_DN, ADMIN_PASSWORD, SUFFIX, Slapd

ROOT = Path(__file__).resolve().parents[1]
USERS, GROUPS = int(os.environ.get("SYNC_USERS", "100000")), int(os.environ.get("SYNC_GROUPS", "5000"))
PEOPLE, TEAMS, UNITS = (f"ou={name},{SUFFIX}" for name in ("people", "groups", "departments"))
PER_DEPARTMENT = 50


def company(users: int, groups: int) -> Iterator[str]:
    """LDIF: departments of fifty, four companies, each person in five groups, groups nested in groups of ten."""
    yield f"dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\no: x\ndc: xinghe\n"
    for base in (PEOPLE, TEAMS, UNITS):
        yield f"dn: {base}\nobjectClass: organizationalUnit\n"
    for n in range(0, users, PER_DEPARTMENT):
        code = f"D{n // PER_DEPARTMENT}"
        yield (
            f"dn: ou={code},{UNITS}\nobjectClass: organizationalUnit\nou: {code}\ndescription: Department {code}\n"
            f"l: XH0{n // PER_DEPARTMENT % 4 + 1}\n"
        )
    for n in range(users):
        department = n // PER_DEPARTMENT
        manager = f"manager: uid=u{n - n % PER_DEPARTMENT},{PEOPLE}\n" if n % PER_DEPARTMENT else ""
        yield (
            f"dn: uid=u{n},{PEOPLE}\nobjectClass: inetOrgPerson\nuid: u{n}\ncn: u{n}\nsn: Family{n % 500}\n"
            f"displayName: Person {n}\nmail: u{n}@xinghe.example\nmobile: 138{n:08}\nemployeeNumber: {n}\n"
            f"departmentNumber: D{department}\no: XH0{department % 4 + 1}\ntitle: Position {n % 40}\n{manager}"
        )
    for n in range(groups):
        members = [f"uid=u{(n * 20 + step * 7) % users},{PEOPLE}" for step in range(users * 5 // groups)]
        if n % 10 == 0:
            members += [f"cn=g{one},{TEAMS}" for one in range(n + 1, min(n + 10, groups))]
        lines = "".join(f"member: {one}\n" for one in dict.fromkeys(members))
        yield f"dn: cn=g{n},{TEAMS}\nobjectClass: groupOfNames\ncn: g{n}\n{lines}"


class Setting:
    """PostgreSQL, slapd with the company, and the command line of a Tessera that reads it."""

    def __init__(self, folder: Path, postgres: Postgres, slapd: Slapd) -> None:
        self.folder = folder
        self.slapd = slapd
        self.env = {
            **os.environ,
            "DATABASE_URL": postgres.database(),
            "TESSERA_VAR": str(folder / "var"),
            "TESSERA_DEMO": "1",
            "LOG_LEVEL": "ERROR",
            "LDAP_SECRET": ADMIN_PASSWORD,
        }
        names = ("XH01", "XH02", "XH03", "XH04")
        document = {
            "directories": [
                {
                    "code": "hq",
                    "name": "hq",
                    "kind": "openldap",
                    "secret": "env:LDAP_SECRET",
                    "settings": {
                        "urls": [slapd.url],
                        "tls": "none",
                        "bind_dn": ADMIN_DN,
                        "users_base": PEOPLE,
                        "groups_base": TEAMS,
                        "departments_base": UNITS,
                        "page_size": 1_000,
                    },
                }
            ],
            "org_units": [{"code": code, "name": code, "kind": "company", "currency": "CNY"} for code in names],
        }
        path = folder / "company.yaml"
        path.write_text(yaml.safe_dump(document))
        self.flask("migrate")
        self.flask("apply", str(path))

    def flask(self, *words: str) -> tuple[float, float]:
        """What the command's process took: megabytes resident at most, and seconds of a processor."""
        command = [sys.executable, "-m", "flask", "--app", "wsgi", "identity", *words]
        with (self.folder / "out").open("w+") as out:
            process = subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=out, stderr=out, text=True)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                out.seek(0)
                raise RuntimeError(f"{words}: {out.read()[-3000:]}")
        return used.ru_maxrss / 1_024, round(used.ru_utime + used.ru_stime, 1)

    def sync(self, *options: str) -> dict[str, Any]:
        """One run: its stages in seconds and its counts, its memory and processor time."""
        resident, cpu = self.flask("sync", "hq", *options)
        address = self.env["DATABASE_URL"].replace("postgresql+psycopg", "postgresql")
        with psycopg.connect(address) as connection:
            row = connection.execute(
                "SELECT timings, counts, finished_at - started_at FROM sync_run ORDER BY started_at DESC LIMIT 1"
            ).fetchone()
        assert row is not None
        timings, counts = json.loads(row[0]), json.loads(row[1])
        seconds = row[2].total_seconds()
        return {"timings": timings, "counts": counts, "seconds": seconds, "resident": resident, "cpu": cpu}


@contextmanager
def setting() -> Iterator[Setting]:
    folder = Path(tempfile.mkdtemp(prefix="tessera-sync-"))
    postgres = Postgres()
    postgres.start()
    try:
        ldif = folder / "company.ldif"
        with ldif.open("w") as out:
            out.writelines(f"{one}\n" for one in company(USERS, GROUPS))
        with Slapd(folder / "slapd", load=ldif) as slapd:
            yield Setting(folder, postgres, slapd)
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


def all_figures() -> Iterator[dict[str, Any]]:
    """First import, a run that finds nothing, the memory of the larger one, a hundred changes."""
    size = {"users": USERS, "groups": GROUPS}
    with setting() as one:
        first = one.sync()
        yield figure("sync.full.100k", first["seconds"], "s", 1, **size, stages=first["timings"], cpu=first["cpu"])
        again = one.sync("--full")
        assert again["counts"] == {}, again
        yield figure("sync.recheck.100k", again["seconds"], "s", 1, **size, stages=again["timings"], cpu=again["cpu"])
        yield figure("sync.memory", max(first["resident"], again["resident"]), "MB", 2, **size)
        runs = []
        for turn in range(3):
            one.slapd.modify(
                "\n".join(
                    f"dn: uid=u{n * (USERS // 100)},{PEOPLE}\nchangetype: modify\nreplace: title\ntitle: New {turn}\n"
                    for n in range(100)
                )
            )
            time.sleep(0.1)
            batch = one.sync()
            assert batch["counts"] == {"user_update": 100}, batch
            runs.append(batch["seconds"])
        yield figure("sync.batch.100", statistics.median(runs), "s", len(runs), **size)


FIGURES = {"sync.full.100k": all_figures}
