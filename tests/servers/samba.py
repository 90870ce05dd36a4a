"""A private Samba Active Directory domain controller: one domain, provisioned once for each test process."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.servers.pki import Authority
from tests.servers.slapd import loopback

REALM, DOMAIN, BASE = "SAMBA.TEST", "SAMBA", "DC=samba,DC=test"
ADMIN, ADMIN_PASSWORD = f"Administrator@{REALM.lower()}", "Directory-admin-2026"


class Samba:
    """Started by `start`, stopped and removed by `stop`. Needs root: its files carry security attributes."""

    def __init__(self) -> None:
        self._made = 0
        self.folder = Path(tempfile.mkdtemp(prefix="tessera-ad-"))
        self.address = loopback()
        self.url, self.tls_url = f"ldap://{self.address}:389", f"ldaps://{self.address}:636"

    def start(self) -> None:
        self._run(
            *("samba-tool", "domain", "provision", "-s", "/dev/null", f"--targetdir={self.folder}"),
            *(f"--realm={REALM}", f"--domain={DOMAIN}", "--server-role=dc", "--dns-backend=NONE"),
            *(f"--adminpass={ADMIN_PASSWORD}", "--host-name=dc1", f"--host-ip={self.address}"),
            "--function-level=2008_R2",
        )
        self.config = self.folder / "run.conf"
        folders = {name: self.folder / name for name in ("lock", "state", "cache", "pid", "ncalrpc", "private")}
        for folder in folders.values():
            folder.mkdir(exist_ok=True)
        authority = Authority(self.folder / "ca")
        self.ca_file = authority.ca_file
        certificate, key = authority.server(self.address)
        key.chmod(0o600)
        self.config.write_text(
            "[global]\n"
            f"netbios name = DC1\nrealm = {REALM}\nworkgroup = {DOMAIN}\n"
            "server role = active directory domain controller\n"
            "server services = ldap, cldap, kdc\n"
            f"interfaces = {self.address}/8\nbind interfaces only = yes\n"
            f"private dir = {folders['private']}\nlock directory = {folders['lock']}\n"
            f"state directory = {folders['state']}\ncache directory = {folders['cache']}\n"
            f"tls certfile = {certificate}\ntls keyfile = {key}\ntls cafile = {self.ca_file}\n"
            f"pid directory = {folders['pid']}\nncalrpc dir = {folders['ncalrpc']}\n"
            f"dns update command = /bin/true\nlog file = {self.folder}/log\nlog level = 0\n"
            "old password allowed period = 0\n"
        )
        settings = ("--complexity=off", "--min-pwd-length=1", "--min-pwd-age=0", "--history-length=0")
        self.tool("domain", "passwordsettings", "set", *settings)
        self._log = (self.folder / "out").open("wb")
        self._process = subprocess.Popen(
            ["samba", "-F", "--no-process-group", "-M", "single", "-s", str(self.config)],
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex((self.address, 636)) == 0:
                    return
            if self._process.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError("samba did not start: " + (self.folder / "out").read_text(errors="replace")[-2000:])

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=10)
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def fresh_base(self) -> str:
        """An organizational unit of its own for one test."""
        self._made += 1
        dn = f"OU=t{self._made},{BASE}"
        self.modify(f"dn: {dn}\nchangetype: add\nobjectClass: organizationalUnit\n")
        return dn

    def tool(self, *words: str) -> str:
        """`samba-tool` on the running database."""
        return self._run("samba-tool", *words, "-s", str(self.config), "-H", str(self.folder / "private" / "sam.ldb"))

    def modify(self, ldif: str) -> None:
        """Change records, as the domain's administrator makes them over LDAP."""
        self._ldap("ldapmodify", text=ldif)

    def lockout(self, threshold: int) -> None:
        """After so many failures (0 = never) the domain locks an account for half an hour."""
        self.modify(
            f"dn: {BASE}\nchangetype: modify\nreplace: lockoutThreshold\nlockoutThreshold: {threshold}\n"
            "-\nreplace: lockOutObservationWindow\nlockOutObservationWindow: -18000000000\n"
        )

    def rid(self, dn: str) -> int:
        """The last part of the objectSid of an entry."""
        out = self._ldap("ldapsearch", "-LLL", "-s", "base", "-b", dn, "objectSid")
        sid = next(line.partition(":: ")[2] for line in out.splitlines() if line.startswith("objectSid"))
        return int.from_bytes(base64.b64decode(sid)[-4:], "little")

    def delete_tree(self, dn: str) -> None:
        """Delete an entry with all below it, if it is there."""
        with suppress(KeyError):
            self._ldap("ldapdelete", "-r", dn)

    def _ldap(self, tool: str, *words: str, text: str = "") -> str:
        env = {**os.environ, "LDAPTLS_CACERT": str(self.ca_file), "LDAPCONF": "/dev/null"}
        command = [tool, "-x", "-H", self.tls_url, "-D", ADMIN, "-w", ADMIN_PASSWORD, *words]
        done = subprocess.run(command, input=text.encode(), check=False, capture_output=True, env=env)
        if b"No such object" in done.stderr:
            raise KeyError(words)
        if done.returncode:
            raise RuntimeError(f"{tool}: {done.stderr.decode()} {text}")
        return done.stdout.decode()

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout[-1000:]} {done.stderr[-2000:]}")
        return done.stdout
