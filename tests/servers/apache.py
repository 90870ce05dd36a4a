"""A private Apache with three relying parties: mod_auth_openidc, mod_auth_mellon (SAML) and mod_auth_cas."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.servers.slapd import free_port

HTTPD = "/usr/sbin/apache2"
MODULES = "/usr/lib/apache2/modules"
LOADED = (
    *("mpm_event", "authn_core", "authz_core", "authz_user", "alias", "headers", "env", "mime", "dir"),
    *("auth_openidc", "auth_mellon", "auth_cas"),
)
CONFIG = """
ServerRoot {folder}
ServerName http://127.0.0.1:{port}
Listen 127.0.0.1:{port}
PidFile {folder}/httpd.pid
DefaultRuntimeDir {folder}
Mutex file:{folder} default
ErrorLog {folder}/error.log
LogLevel warn
TypesConfig /etc/mime.types
DocumentRoot {folder}/pages
ServerLimit 1
ThreadsPerChild 16
MaxRequestWorkers 16
UseCanonicalName On
{user}
{load}

<Location />
    Require all granted
</Location>

<Location /saml>
    AuthType Mellon
    MellonEnable auth
    MellonEndpointPath /saml/mellon
    MellonSPPrivateKeyFile {folder}/sp.key
    MellonSPCertFile {folder}/sp.crt
    MellonIdPMetadataFile {folder}/idp.xml
    MellonSecureCookie Off
    MellonUser preferred_username
    MellonSetEnvNoPrefix REL_NAME name
    Require valid-user
    Header set X-User "expr=%{{REMOTE_USER}}"
    Header set X-Name "%{{REL_NAME}}e"
</Location>

CASVersion 2
CASLoginURL {provider}/cas/login
CASValidateURL {provider}/cas/p3/serviceValidate
CASCookiePath {folder}/cas/
CASSSOEnabled On
CASAttributePrefix CAS-
<Location /cas>
    AuthType CAS
    CASScope /cas
    CASAuthNHeader CAS-User
    Require valid-user
    Header set X-User "expr=%{{REMOTE_USER}}"
    Header set X-Name "expr=%{{HTTP:CAS-name}}"
</Location>

OIDCProviderMetadataURL {provider}/.well-known/openid-configuration
OIDCClientID expense
OIDCClientSecret test-secret
OIDCRedirectURI http://127.0.0.1:{port}/oidc/callback
OIDCCryptoPassphrase a-passphrase-of-this-test
OIDCPKCEMethod S256
OIDCScope "openid profile roles"
OIDCRemoteUserClaim preferred_username
OIDCCacheType file
OIDCCacheDir {folder}/cache
<Location /oidc>
    AuthType openid-connect
    Require valid-user
    Header set X-User "expr=%{{REMOTE_USER}}"
    Header set X-Name "%{{OIDC_CLAIM_name}}e"
</Location>
"""


class Apache:
    """Runs while the context is open; `/saml/page`, `/cas/page` and `/oidc/page` are protected by one module each.

    A page's answer says who its module let in: `X-User`, and the attribute `name` in `X-Name`.
    """

    def __init__(self, provider: str, key: str, certificate: str) -> None:
        self.provider = provider
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = Path(tempfile.mkdtemp(prefix="tessera-httpd-"))
        (self.folder / "sp.key").write_text(key)
        (self.folder / "sp.crt").write_text(certificate)

    def __enter__(self) -> Self:
        (self.folder / "idp.xml").write_bytes(httpx.get(f"{self.provider}/saml/metadata").content)
        for name in ("cas", "cache", "pages/saml", "pages/cas", "pages/oidc"):
            (self.folder / name).mkdir(parents=True)
        for name in ("saml", "cas", "oidc"):
            (self.folder / "pages" / name / "page").write_text("in")
        config = self.folder / "httpd.conf"
        load = "\n".join(f"LoadModule {one}_module {MODULES}/mod_{one}.so" for one in LOADED)
        root = os.geteuid() == 0
        user = "User www-data\nGroup www-data" if root else ""
        config.write_text(
            CONFIG.format(folder=self.folder, port=self.port, provider=self.provider, load=load, user=user)
        )
        if root:
            for path in (self.folder, *self.folder.rglob("*")):
                shutil.chown(path, "www-data", "www-data")
        self._process = subprocess.Popen([HTTPD, "-f", str(config), "-DFOREGROUND"], stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                httpx.get(f"{self.url}/nothing")
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return self
        raise RuntimeError("httpd did not start: " + self.log())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        """What httpd wrote of its faults."""
        path = self.folder / "error.log"
        return path.read_text(errors="replace")[-4_000:] if path.exists() else "no log"
