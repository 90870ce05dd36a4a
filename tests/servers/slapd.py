"""A private slapd with the demo company's schema and overlays."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

SUFFIX = "dc=xinghe,dc=example"
ADMIN_DN, ADMIN_PASSWORD = f"cn=admin,{SUFFIX}", "directory-admin"
SCHEMA = Path("/etc/ldap/schema")
MODULES = "/usr/lib/ldap"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def loadable(ldif: str, password: str) -> str:
    """The demo company's LDIF as slapd takes it: operational attributes out, passwords for a slapd without argon2."""
    kept = re.sub(r"^entryUUID: .*\n", "", ldif, flags=re.MULTILINE)
    return re.sub(r"^userPassword:.*\n(?: .*\n)*", f"userPassword: {password}\n", kept, flags=re.MULTILINE)


class Slapd:
    """Runs while the context is open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"ldap://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        data = self.folder / "data"
        data.mkdir(parents=True)
        config = self.folder / "slapd.conf"
        config.write_text(self._config(data), encoding="utf-8")
        self._log = (self.folder / "slapd.log").open("wb")
        self._process = subprocess.Popen(
            ["/usr/sbin/slapd", "-d", "0", "-f", str(config), "-h", self.url],
            stdout=self._log,
            stderr=self._log,
        )
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.05)
        raise RuntimeError("slapd did not start; see " + str(self.folder / "slapd.log"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)
        self._log.close()

    def add(self, ldif: str) -> None:
        """Add entries."""
        self._run("ldapadd", ldif)

    def modify(self, ldif: str) -> None:
        """Change entries (LDIF change records)."""
        self._run("ldapmodify", ldif)

    def lock(self, dn: str) -> None:
        """Disable an account as an administrator does."""
        self.modify(f"dn: {dn}\nchangetype: modify\nadd: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z\n")

    def _run(self, tool: str, ldif: str) -> None:
        subprocess.run(
            [tool, "-x", "-H", self.url, "-D", ADMIN_DN, "-w", ADMIN_PASSWORD, "-e", "relax"],
            input=ldif.encode(),
            check=True,
            capture_output=True,
            env={**os.environ, "LDAPCONF": "/dev/null"},
        )

    def _config(self, data: Path) -> str:
        schemas = "".join(f"include {SCHEMA / name}.schema\n" for name in ("core", "cosine", "inetorgperson"))
        return (
            f"{schemas}modulepath {MODULES}\nmoduleload back_mdb\nmoduleload memberof\nmoduleload ppolicy\n"
            f"moduleload syncprov\npidfile {self.folder}/slapd.pid\nsizelimit 500\n"
            f'database mdb\nsuffix "{SUFFIX}"\nrootdn "{ADMIN_DN}"\nrootpw {ADMIN_PASSWORD}\ndirectory {data}\n'
            "maxsize 268435456\nindex objectClass eq\nindex uid eq\nindex entryUUID eq\n"
            "overlay memberof\noverlay ppolicy\noverlay syncprov\n"
        )
