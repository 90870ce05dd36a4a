"""A private slapd with the demo company's schema and overlays."""

from __future__ import annotations

import os
import random
import re
import signal
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


def loopback() -> str:
    """A loopback address of its own, so that servers of parallel tests never meet."""
    return f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"


def loadable(ldif: str, password: str) -> str:
    """The demo company's LDIF as slapd takes it: operational attributes out, passwords for a slapd without argon2."""
    kept = re.sub(r"^entryUUID: .*\n", "", ldif, flags=re.MULTILINE)
    return re.sub(r"^userPassword:.*\n(?: .*\n)*", f"userPassword: {password}\n", kept, flags=re.MULTILINE)


class Slapd:
    """Runs while the context is open. With `tls` = (certificate, key) it speaks StartTLS on `url` and TLS on `tls_url`.

    `syncprov` false = it cannot say what changed. `config` is put at the end of its database's configuration; `load`
    is an LDIF file that it starts with (read without overlays, so nobody has memberOf).
    """

    def __init__(
        self,
        folder: Path,
        tls: tuple[Path, Path] | None = None,
        config: str = "",
        address: str = "",
        load: Path | None = None,
        *,
        syncprov: bool = True,
    ) -> None:
        self._syncprov = syncprov
        self.folder = folder
        self.address = address or loopback()
        self.url, self.tls_url = f"ldap://{self.address}:1389", f"ldaps://{self.address}:1636"
        self._tls = tls
        self._more = config
        self._load = load

    def __enter__(self) -> Self:
        (self.folder / "data").mkdir(parents=True)
        if self._load is not None:
            path = self.folder / "slapd.conf"
            path.write_text(self._config(self.folder / "data"), encoding="utf-8")
            command = ["/usr/sbin/slapadd", "-q", "-w", "-f", str(path), "-l", str(self._load)]
            subprocess.run(command, check=True, capture_output=True)
        self.start()
        return self

    def start(self, config: str | None = None) -> None:
        """Start it; `config` replaces what is put at the end of the configuration."""
        self._more = self._more if config is None else config
        path = self.folder / "slapd.conf"
        path.write_text(self._config(self.folder / "data"), encoding="utf-8")
        self._log = (self.folder / "slapd.log").open("ab")
        self._process = subprocess.Popen(
            ["/usr/sbin/slapd", "-d", "0", "-f", str(path), "-h", f"{self.url} {self.tls_url if self._tls else ''}"],
            stdout=self._log,
            stderr=self._log,
        )
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex((self.address, 1389)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError("slapd did not start; see " + str(self.folder / "slapd.log"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
        self._process.wait(timeout=10)
        self._log.close()

    def send(self, number: int) -> None:
        """Send the server a signal."""
        self._process.send_signal(number)

    def add(self, ldif: str) -> None:
        """Add entries."""
        self._run("ldapadd", ldif)

    def modify(self, ldif: str) -> None:
        """Change entries (LDIF change records)."""
        self._run("ldapmodify", ldif)

    def lock(self, dn: str) -> None:
        """Disable an account as an administrator does."""
        self.modify(f"dn: {dn}\nchangetype: modify\nadd: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z\n")

    def search(self, dn: str, *attributes: str) -> str:
        """One entry as LDIF."""
        command = ["ldapsearch", "-x", "-LLL", "-o", "ldif-wrap=no", "-H", self.url, "-D", ADMIN_DN]
        command += ["-w", ADMIN_PASSWORD, "-s", "base", "-b", dn, *attributes]
        return subprocess.run(
            command, check=True, capture_output=True, env={**os.environ, "LDAPCONF": "/dev/null"}
        ).stdout.decode()

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
            f"moduleload syncprov\npidfile {self.folder}/slapd.pid\nsizelimit 500\n{self._tls_config()}"
            f'database mdb\nsuffix "{SUFFIX}"\nrootdn "{ADMIN_DN}"\nrootpw {ADMIN_PASSWORD}\ndirectory {data}\n'
            "maxsize 4294967296\nindex objectClass eq\nindex uid eq\nindex entryUUID eq\n"
            "overlay memberof\nmemberof-refint TRUE\noverlay ppolicy\n"
            + ("overlay syncprov\nsyncprov-sessionlog 1000\n" if self._syncprov else "")
            + self._more
        )

    def _tls_config(self) -> str:
        if self._tls is None:
            return ""
        return f"TLSCertificateFile {self._tls[0]}\nTLSCertificateKeyFile {self._tls[1]}\n"
