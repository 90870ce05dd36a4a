"""Answers of the validation endpoints (CAS Protocol 3.0 §2.5, §2.6), as XML and as JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

NAMESPACE = "http://www.yale.edu/tp/cas"
_ILLEGAL = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# NCName (Namespaces in XML §3): attributes may be called 部门.
_START = "A-Z_a-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c\u200d\u2070-\u218f"
_START += "\u2c00-\u2fef\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff"
_NAME = re.compile(f"[{_START}][{_START}0-9.\u00b7\u0300-\u036f\u203f\u2040-]*")


def success_xml(user: str, attributes: Mapping[str, Any] | None) -> str:
    """`cas:authenticationSuccess`; `attributes` None = CAS 2.0 without attributes."""
    lines = [f"<cas:user>{_text(user)}</cas:user>"]
    if attributes is not None:
        lines.append("<cas:attributes>")
        for name, value in attributes.items():
            values = value if isinstance(value, (list, tuple)) else [value]
            # A name that XML does not allow, such as a URI, is left out here and stands in the JSON form.
            if _NAME.fullmatch(name):
                lines += [f"<cas:{name}>{_text(_plain(one))}</cas:{name}>" for one in values]
        lines.append("</cas:attributes>")
    body = "".join(lines)
    return _envelope(f"<cas:authenticationSuccess>{body}</cas:authenticationSuccess>")


def failure_xml(code: str, description: str) -> str:
    """`cas:authenticationFailure`."""
    return _envelope(f'<cas:authenticationFailure code="{code}">{_text(description)}</cas:authenticationFailure>')


def success_json(user: str, attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """The JSON form; every attribute is a list (CAS 3.0 appendix A)."""
    body: dict[str, Any] = {"user": user}
    if attributes is not None:
        body["attributes"] = {
            name: list(value) if isinstance(value, (list, tuple)) else [value] for name, value in attributes.items()
        }
    return {"serviceResponse": {"authenticationSuccess": body}}


def failure_json(code: str, description: str) -> dict[str, Any]:
    return {"serviceResponse": {"authenticationFailure": {"code": code, "description": description}}}


def logout_request(request_id: str, ticket: str, issued_at: str) -> str:
    """The single logout message (CAS 3.0 §2.3.3): SAML with the service ticket as session index."""
    return (
        '<samlp:LogoutRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" '
        f'xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="{_text(request_id)}" Version="2.0" '
        f'IssueInstant="{_text(issued_at)}"><saml:NameID>@NOT_USED@</saml:NameID>'
        f"<samlp:SessionIndex>{_text(ticket)}</samlp:SessionIndex></samlp:LogoutRequest>"
    )


def _envelope(inner: str) -> str:
    return f'<cas:serviceResponse xmlns:cas="{NAMESPACE}">{inner}</cas:serviceResponse>'


def _plain(value: Any) -> str:
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _text(value: str) -> str:
    return escape(_ILLEGAL.sub("", value), {'"': "&quot;"})
