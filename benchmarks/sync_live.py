"""From a change in a live directory to its effect on the next decision, over HTTP, with the worker beside the server.

SYNC_LIVE_USERS (1,000) and SYNC_LIVE_TURNS (40) change the company's size and how often it is measured.
"""

from __future__ import annotations

import base64
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import yaml

from benchmarks.figure import figure
from benchmarks.served import SECRETS, flask, prepared, process, serving
from tests.servers import samba
from tests.servers.slapd import ADMIN_DN, ADMIN_PASSWORD, SUFFIX, Slapd

USERS, TURNS = int(os.environ.get("SYNC_LIVE_USERS", "1000")), int(os.environ.get("SYNC_LIVE_TURNS", "40"))
GIVE_UP_S = 60.0
PEOPLE, TEAMS = f"ou=people,{SUFFIX}", f"ou=groups,{SUFFIX}"

Toggle = Callable[[bool], None]


@contextmanager
def openldap() -> Iterator[tuple[dict[str, Any], Toggle]]:
    """A slapd with the company: its settings, and how its user u1 joins and leaves the group."""
    with tempfile.TemporaryDirectory(prefix="tessera-live-") as name:
        ldif = Path(name) / "company.ldif"
        with ldif.open("w") as out:
            out.write(f"dn: {SUFFIX}\nobjectClass: dcObject\nobjectClass: organization\no: x\ndc: xinghe\n\n")
            out.writelines(f"dn: {base}\nobjectClass: organizationalUnit\n\n" for base in (PEOPLE, TEAMS))
            out.writelines(
                f"dn: uid=u{n},{PEOPLE}\nobjectClass: inetOrgPerson\nuid: u{n}\ncn: u{n}\nsn: S\n\n"
                for n in range(USERS)
            )
            out.write(f"dn: cn=live-staff,{TEAMS}\nobjectClass: groupOfNames\ncn: live-staff\n")
            out.write(f"member: uid=u0,{PEOPLE}\n\n")
        with Slapd(Path(name) / "slapd", load=ldif) as slapd:

            def toggle(inside: bool) -> None:
                verb = "add" if inside else "delete"
                change = f"changetype: modify\n{verb}: member\nmember: uid=u1,{PEOPLE}\n"
                slapd.modify(f"dn: cn=live-staff,{TEAMS}\n{change}")

            settings = {
                "urls": [slapd.url],
                "tls": "none",
                "bind_dn": ADMIN_DN,
                "users_base": PEOPLE,
                "groups_base": TEAMS,
            }
            yield {"kind": "openldap", "secret": ADMIN_PASSWORD, "settings": settings}, toggle


@contextmanager
def active_directory() -> Iterator[tuple[dict[str, Any], Toggle]]:
    """A Samba domain controller with the company."""
    server = samba.Samba()
    server.start()
    try:
        base = server.fresh_base()
        people, teams = f"OU=people,{base}", f"OU=groups,{base}"
        for dn in (people, teams):
            server.modify(f"dn: {dn}\nchangetype: add\nobjectClass: organizationalUnit\n")
        secret = base64.b64encode('"Passw0rd-live"'.encode("utf-16-le")).decode()
        for start in range(0, USERS, 100):
            server.modify(
                "\n".join(
                    f"dn: CN=u{n},{people}\nchangetype: add\nobjectClass: user\nsAMAccountName: u{n}\n"
                    f"userAccountControl: 512\nunicodePwd:: {secret}\n"
                    for n in range(start, min(start + 100, USERS))
                )
            )
        group = f"CN=live-staff,{teams}"
        server.modify(
            f"dn: {group}\nchangetype: add\nobjectClass: group\nsAMAccountName: live-staff\nmember: CN=u0,{people}\n"
        )

        def toggle(inside: bool) -> None:
            verb = "add" if inside else "delete"
            server.modify(f"dn: {group}\nchangetype: modify\n{verb}: member\nmember: CN=u1,{people}\n")

        settings = {
            "urls": [server.tls_url],
            "ca_file": str(server.ca_file),
            "bind_dn": samba.ADMIN,
            "users_base": people,
            "groups_base": teams,
        }
        yield {"kind": "active_directory", "secret": samba.ADMIN_PASSWORD, "settings": settings}, toggle
    finally:
        server.stop()


def measure(directory: Any) -> list[float]:
    """Seconds from each change to the first decision that knows it."""
    with ExitStack() as stack:
        source, toggle = stack.enter_context(directory())
        path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tessera-live-"))) / "live.yaml"
        os.environ["LIVE_SECRET"] = source.pop("secret")
        document = {
            "directories": [{"code": "live", "name": "live", "secret": "env:LIVE_SECRET", "live": True, **source}],
            "applications": [{"code": "live", "name": "live", "credential": "env:EXPENSE_PDP_SECRET"}],
            "roles": [{"application": "live", "name": "member", "title": "Member"}],
            "permissions": [{"role": "live:member", "type": "door", "actions": ["open"]}],
            "mappings": [{"group": "live-staff", "role": "live:member"}],
        }
        path.write_text(yaml.safe_dump(document))
        env = stack.enter_context(prepared("postgres", str(path)))
        flask(env, "sync", "live")
        stack.enter_context(serving(env))
        stack.enter_context(process(env, "-m", "flask", "--app", "wsgi", "identity", "worker"))
        return list(_turns(env, toggle))


def _turns(env: dict[str, str], toggle: Toggle) -> Iterator[float]:
    with psycopg.connect(env["DATABASE_URL"].replace("postgresql+psycopg", "postgresql")) as connection:
        row = connection.execute("SELECT sub FROM users WHERE login = 'u1'").fetchone()
    assert row is not None
    question = {
        "subject": {"type": "user", "id": str(row[0])},
        "action": {"name": "open"},
        "resource": {"type": "door", "id": "d1"},
    }
    with httpx.Client(base_url=env["PUBLIC_URL"], auth=("live", SECRETS["EXPENSE_PDP_SECRET"])) as client:

        def may() -> bool:
            return bool(client.post("/access/v1/evaluation", json=question).json().get("decision"))

        for turn in range(TURNS + 1):
            wanted = turn % 2 == 0
            started = time.monotonic()
            toggle(wanted)
            while may() is not wanted:
                if time.monotonic() - started > GIVE_UP_S:
                    raise RuntimeError("the change did not arrive")
                time.sleep(0.01)
            if turn:  # the first one waits for the watcher to come up
                yield time.monotonic() - started
            time.sleep(0.05 * (turn % 7))


def _figure(name: str, seconds: list[float]) -> dict[str, Any]:
    p95 = statistics.quantiles(seconds, n=20)[-1]
    return figure(name, p95, "s (p95)", len(seconds), median=round(statistics.median(seconds), 3), users=USERS)


def of_openldap() -> Iterator[dict[str, Any]]:
    """p95 of OpenLDAP."""
    yield _figure("sync.live.openldap", measure(openldap))


def of_active_directory() -> Iterator[dict[str, Any]]:
    """p95 of Active Directory (Samba)."""
    yield _figure("sync.live.ad", measure(active_directory))


FIGURES = {"sync.live.openldap": of_openldap, "sync.live.ad": of_active_directory}
