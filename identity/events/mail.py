"""Mail: one plain-text message to one address, with at most one file; over TLS or not at all (but on this machine)."""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

from identity.core.errors import Invalid, Unavailable
from identity.core.settings import LOOPBACK_HOSTS

TIMEOUT_S = 10.0


def send_mail(
    smtp_url: str, sender: str, receiver: str, subject: str, text: str, file: tuple[str, str] | None = None
) -> None:
    """Hand the message to the mail server; returns when it has taken it. `file` is a CSV's name and content.

    `smtps://user:password@host:port` speaks TLS from the start, `smtp://…` upgrades by STARTTLS; only a server on
    loopback may go without. Raises `Unavailable` when the server is not reached or refuses, and `Invalid` for an
    address or a subject with a line break.
    """
    parts = urlsplit(smtp_url)
    host = parts.hostname or ""
    if parts.scheme not in {"smtp", "smtps"} or not host:
        raise Invalid("SMTP_URL must be smtp://host or smtps://host.", code="smtp_url")
    message = EmailMessage()
    try:
        message["From"], message["To"], message["Subject"] = sender, receiver, subject
    except ValueError as error:
        raise Invalid("The mail's address or subject is not valid.", str(error), code="mail") from None
    message.set_content(text)
    if file is not None:
        message.add_attachment(file[1].encode(), maintype="text", subtype="csv", filename=file[0])
    context = ssl.create_default_context()
    try:
        with _connect(parts.scheme, host, parts.port, context) as server:
            if parts.scheme == "smtp" and (server.ehlo()[0] == 250 and server.has_extn("starttls")):
                server.starttls(context=context)
            elif parts.scheme == "smtp" and host not in LOOPBACK_HOSTS:
                raise Unavailable("The mail server offers no TLS.", host, code="mail")
            if parts.username:
                server.login(unquote(parts.username), unquote(parts.password or ""))
            server.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        raise Unavailable("The mail server did not take the message.", str(error), code="mail") from error


def _connect(scheme: str, host: str, port: int | None, context: ssl.SSLContext) -> smtplib.SMTP:
    if scheme == "smtps":
        return smtplib.SMTP_SSL(host, port or 465, timeout=TIMEOUT_S, context=context)
    return smtplib.SMTP(host, port or 587, timeout=TIMEOUT_S)
