"""Connections to LDAP servers: certificate check, one deadline for whole operations, fail-over, pages, kept for binds.

ldap3's time-outs hold for one `recv`; a server that drips a byte a second outlives them. So each operation has a
deadline at which its socket is shut down, the TLS handshake included.
"""

from __future__ import annotations

import base64
import hashlib
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from ldap3 import DEREF_NEVER, NONE, SUBTREE, Connection, Server, Tls
from ldap3.core.exceptions import LDAPException
from ldap3.utils.conv import escape_filter_chars

from identity.core.errors import Unavailable
from identity.directory.messages import read_lean
from identity.directory.reader import ReadIncomplete
from identity.directory.settings import DirectorySettings

PAGED = "1.2.840.113556.1.4.319"
OK, NO_SUCH_OBJECT, INVALID_CREDENTIALS = 0, 32, 49
# busy, unavailable: no answer about anybody (RFC 4511 appendix A).
NO_ANSWER = frozenset({51, 52})
RESPONSE_MAX = 64 * 1024 * 1024
IDLE_MAX = 4
IDLE_S = 60.0

# What a broken or hostile server can make of ldap3: its own errors, and those of its BER decoder on nonsense.
FAULTS = (LDAPException, OSError, ValueError, LookupError, TypeError, struct.error, RecursionError, AttributeError)


class TlsByContext(Tls):  # type: ignore[misc]
    """TLS by one context for all connections: chain and host name are checked by OpenSSL, the key by its pin."""

    def __init__(self, settings: DirectorySettings) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._pins = frozenset(settings.pins)
        try:
            self._context = ssl.create_default_context(cafile=settings.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise Unavailable("The directory's CA file cannot be read.", str(error), code="directory_ca") from None
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:  # noqa: ARG002
        """Make the connection's socket a TLS one; raises `ssl.SSLError` for a certificate that does not hold."""
        # Bytes behind the StartTLS answer were not protected by TLS and may not be read as if they were (RFC 4511
        # §4.14.1: the client waits for the answer before it sends more, so there can be none).
        if select.select([connection.socket], [], [], 0)[0]:
            raise ssl.SSLError("data before TLS")
        wrapped = self._context.wrap_socket(connection.socket, server_hostname=connection.server.host)
        certificate = wrapped.getpeercert(binary_form=True)
        if self._pins and _pin(certificate or b"") not in self._pins:
            wrapped.close()
            raise ssl.SSLError("the server's key is not one of the pinned ones")
        connection.socket = wrapped


def _pin(certificate: bytes) -> str:
    key = x509.load_der_x509_certificate(certificate).public_key()
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "sha256/" + base64.b64encode(hashlib.sha256(info).digest()).decode()


class _Bounded:
    """A socket that gives at most `RESPONSE_MAX` bytes to one operation."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.left = RESPONSE_MAX

    def recv(self, size: int) -> bytes:
        data: bytes = self.inner.recv(size)
        self.left -= len(data)
        if self.left < 0:
            raise OSError("the answer is too large")
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@contextmanager
def deadline(connection: Any, seconds: float) -> Iterator[None]:
    """Inside, the connection's socket is shut down once `seconds` have passed, so that every wait on it ends."""
    done = threading.Event()

    def cut() -> None:
        pause = seconds
        while not done.wait(pause):
            pause = 0.05
            with suppress(OSError, AttributeError, ValueError):
                connection.socket.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=cut, name="ldap-deadline", daemon=True)
    thread.start()
    try:
        if isinstance(connection.socket, _Bounded):
            connection.socket.left = RESPONSE_MAX
        yield
    finally:
        done.set()


class LdapServers:
    """The servers of one source. The one that answered last is asked first."""

    def __init__(self, settings: DirectorySettings, secret: str) -> None:
        self.settings = settings
        self._secret = secret
        self._tls = TlsByContext(settings) if settings.tls != "none" else None
        self._urls = list(settings.urls)
        self._lock = threading.Lock()
        self._idle: dict[str, list[tuple[Any, str, float]]] = {"search": [], "bind": []}

    def urls(self) -> list[str]:
        with self._lock:
            return list(self._urls)

    def prefer(self, url: str) -> None:
        """Ask this server first from now on."""
        with self._lock:
            self._urls.sort(key=lambda one: one != url)

    def open(self, url: str, user: str, password: str, seconds: float) -> Any:
        """An open connection that is not bound yet; raises one of `FAULTS` or `Unavailable`."""
        s = self.settings
        server = Server(
            url, use_ssl=s.tls == "ldaps", tls=self._tls, get_info=NONE, connect_timeout=s.connect_timeout_s
        )
        connection = Connection(
            server,
            user=user or None,
            password=password if user else None,
            authentication="SIMPLE" if user else "ANONYMOUS",
            auto_referrals=False,
            return_empty_attributes=False,
            raise_exceptions=False,
            check_names=False,
            auto_bind=False,
        )
        try:
            with deadline(connection, seconds):
                connection.open()
                if s.tls == "starttls" and not connection.start_tls():
                    raise Unavailable("The directory did not start TLS.", str(connection.result), code="no_tls")
        except BaseException:
            close(connection)
            raise
        connection.socket.settimeout(None)
        connection.socket = _Bounded(connection.socket)
        read_lean(connection)
        return connection

    def bound(self, url: str, seconds: float) -> Any:
        """A connection of our own account to this server; raises one of `FAULTS` or `Unavailable`."""
        started = time.monotonic()
        connection = self.reach(url, seconds)
        try:
            self.bind(connection, max(0.1, seconds - (time.monotonic() - started)))
        except BaseException:
            close(connection)
            raise
        return connection

    def reach(self, url: str, seconds: float) -> Any:
        """A connection for our own account that is not bound yet."""
        return self.open(url, self.settings.bind_dn, self._secret, seconds)

    def bind(self, connection: Any, seconds: float) -> None:
        """Bind it as our own account; raises `Unavailable` when the directory refuses it."""
        with deadline(connection, seconds):
            connection.bind()
        if connection.result["result"] != OK:
            raise Unavailable(
                "The directory refused our account.", str(connection.result["description"]), code="bind_refused"
            )

    @contextmanager
    def service(self, *, keep: bool = False) -> Iterator[tuple[Any, str]]:
        """A connection of our own account to the first server that answers, and its address. `keep` = one that was kept
        from the last time, and that is kept again.

        Raises `Unavailable` when none does, and `ReadIncomplete` for any fault inside.
        """
        problems = []
        for url in self.urls():
            try:
                connection = self.take("search", url) if keep else None
                if connection is None:
                    connection = self.bound(url, self.settings.connect_timeout_s + self.settings.login_timeout_s)
            except (*FAULTS, Unavailable) as error:
                problems.append(f"{url}: {getattr(error, 'detail', '') or error}")
                continue
            self.prefer(url)
            try:
                yield connection, url
            except BaseException as error:
                close(connection)
                if isinstance(error, FAULTS):
                    raise ReadIncomplete("The directory stopped answering.", str(error), code="read_broken") from error
                raise
            if keep:
                self.keep("search", url, connection)
            else:
                close(connection)
            return
        raise Unavailable("The directory cannot be reached.", "; ".join(problems), code="directory_unreachable")

    def take(self, purpose: str, url: str) -> Any | None:
        """A kept connection to this server that is still alive."""
        with self._lock:
            idle = self._idle[purpose]
            while idle:
                connection, where, since = idle.pop()
                # A readable idle socket is an end of file or a notice of disconnection (RFC 4511 §4.4.1).
                alive = time.monotonic() - since < IDLE_S and not select.select([connection.socket], [], [], 0)[0]
                if where == url and alive:
                    return connection
                close(connection)
        return None

    def keep(self, purpose: str, url: str, connection: Any) -> None:
        """Give a connection back for the next one who needs it."""
        with self._lock:
            if len(self._idle[purpose]) < IDLE_MAX:
                self._idle[purpose].append((connection, url, time.monotonic()))
                return
        close(connection)

    def close(self) -> None:
        """End the kept connections."""
        with self._lock:
            for idle in self._idle.values():
                while idle:
                    close(idle.pop()[0])


def close(connection: Any) -> None:
    """End a connection without waiting for anybody."""
    with suppress(*FAULTS):
        connection.strategy.close()
    # ldap3 leaves the socket of a connection that it could not open.
    with suppress(*FAULTS):
        if connection.socket is not None:
            connection.socket.close()
            connection.socket = None


def search_all(
    connection: Any,
    settings: DirectorySettings,
    base: str,
    wanted: str,
    attributes: Sequence[str],
    ends: float,
    controls: Sequence[Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """Every entry below `base`, page by page; raises `ReadIncomplete` for anything less. `ends` is monotonic time."""
    cookie: bytes | None = None
    while True:
        left = ends - time.monotonic()
        if left <= 0:
            raise ReadIncomplete("The directory took too long.", base, code="read_timeout")
        result = search_once(
            connection,
            base,
            wanted,
            attributes,
            min(left, settings.page_timeout_s),
            paged_size=settings.page_size,
            paged_cookie=cookie,
            controls=controls,
        )
        yield from (one for one in connection.response if one["type"] == "searchResEntry")
        cookie = result.get("controls", {}).get(PAGED, {}).get("value", {}).get("cookie")
        if not cookie:
            return


def find_login(connection: Any, settings: DirectorySettings, login: str, attributes: Sequence[str]) -> list[Any]:
    """The entries of users with this login."""
    wanted = f"(&{settings.users_filter}({settings.attributes.login}={escape_filter_chars(login)}))"
    ends = time.monotonic() + settings.login_timeout_s
    return list(search_all(connection, settings, settings.users_base, wanted, attributes, ends))


def search_once(
    connection: Any, base: str, wanted: str, attributes: Sequence[str], seconds: float, **options: Any
) -> dict[str, Any]:
    """One search; its result, the entries stand in `connection.response`. Raises `ReadIncomplete` unless it succeeded:
    a size or time limit, a referral and a missing base are no answer."""
    with deadline(connection, seconds):
        connection.search(
            base,
            wanted,
            search_scope=options.pop("search_scope", SUBTREE),
            dereference_aliases=DEREF_NEVER,
            attributes=list(attributes),
            **options,
        )
    result: dict[str, Any] = connection.result
    if result["result"] != OK:
        raise ReadIncomplete(
            "The directory did not give everything.", f"{base}: {result['description']}", code="read_refused"
        )
    return result
