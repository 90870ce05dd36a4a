"""Random input to the parsers of SAML messages and CAS services: their own errors only, never a fault."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from urllib.parse import unquote, urlencode, urlsplit
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from identity.apps.registry import Acs, App, Apps, Cas, Sp
from identity.core.errors import Invalid
from identity.core.xml import INFLATED_MAX, inflate, parse
from identity.saml import bindings
from identity.saml.request import AuthnRequest, read
from tests.integration.saml.sp import (
    ACS,
    ENTITY,
    PERSISTENT,
    SSO,
    deflated,
    key_pair,
    redirect_query,
    request_xml,
    signed_query,
    signed_xml,
)
from tests.world import World

LOCAL = settings(max_examples=400, deadline=None)
DOOR = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
APP = App(uuid4(), "oa", "OA", "OA", "", None, "active", True, "sub", "strict", (), {})
APPS = Apps(sps={ENTITY: Sp(uuid4(), APP, ENTITY, (Acs(ACS, 0, True),), PERSISTENT, (key_pair()[1],), None, {})})
NOW = datetime.now(UTC)

SEEDS = [
    request_xml(now=NOW),
    request_xml('<samlp:NameIDPolicy Format="x" AllowCreate="1"/>', now=NOW),
    request_xml("<saml:Subject><saml:NameID>x</saml:NameID></saml:Subject>", now=NOW),
    signed_xml(request_xml(now=NOW), *key_pair()),
]
PIECES = st.sampled_from(
    [
        *(b"<!--x-->", b"<?a b?>", b"<![CDATA[x]]>", b"&#0;", b"&amp;", b"&x;", b"\x00", b"\xff", b"xmlns='1'"),
        *(
            b"<!DOCTYPE a>",
            b'xml:id="_r1"',
            b'ID="_r1"',
            b"<a/>",
            b"</saml:Issuer>",
            b"urn:x",
            b"true",
            b"0",
            b'"',
            b">",
        ),
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A request with a few pieces cut out, doubled or put in."""
    message = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(0, len(message))), draw(st.integers(0, 40))
        middle = draw(st.one_of(PIECES, st.binary(max_size=8), st.just(message[at : at + length] * 2)))
        message = message[:at] + middle + message[at + draw(st.sampled_from([0, length])) :]
    return message


def read_or_refuse(message: bindings.Message) -> None:
    try:
        found = read(message, APPS, SSO, NOW)
    except Invalid:
        return
    assert isinstance(found, AuthnRequest)
    assert found.acs.url == ACS
    assert found.sp.entity_id == ENTITY


@LOCAL
@given(mutated())
def test_sa_01_a_changed_message_is_read_or_refused_by_post(message: bytes) -> None:
    try:
        parsed = bindings.from_post({"SAMLRequest": base64.b64encode(message).decode()})
    except Invalid:
        return
    read_or_refuse(parsed)


@LOCAL
@given(st.one_of(mutated().map(redirect_query), st.text(max_size=200), st.binary(max_size=200).map(deflated)))
@example(signed_query(request_xml(now=NOW), key_pair()[0]))
@example("SAMLRequest=&SAMLRequest=")
def test_sa_01_a_changed_message_is_read_or_refused_by_redirect(query: str) -> None:
    try:
        parsed = bindings.from_redirect(query)
    except Invalid:
        return
    read_or_refuse(parsed)


@LOCAL
@given(st.one_of(st.binary(max_size=300), mutated()))
def test_xml_is_parsed_or_refused(data: bytes) -> None:
    try:
        root = parse(data)
    except Invalid:
        return
    assert root.getroottree().docinfo.internalDTD is None
    assert all(isinstance(node.tag, str) for node in root.iter())


@LOCAL
@given(st.binary(max_size=2_000))
def test_deflated_data_is_bounded(data: bytes) -> None:
    for value in (data, base64.b64decode(deflated(data * 200))):
        try:
            assert len(inflate(value)) <= INFLATED_MAX
        except Invalid:
            continue


BASE = "https://erp.example/app/"
TAILS = st.lists(
    st.one_of(
        st.sampled_from(
            ["..", ".", "/", "//", "\\", "%2e", "%2F", "%5c", "%25", ";", "#", "?", "@", "%", "\t", ":", "a", "张"]
        ),
        st.text(max_size=3),
    ),
    max_size=8,
).map("".join)


@settings(max_examples=2_000, deadline=None)
@given(st.one_of(TAILS.map(lambda tail: BASE + tail), st.text(max_size=60), TAILS))
@pytest.mark.case("CA-06")
def test_a_service_below_a_template_has_one_reading_only(service: str) -> None:
    cas = Cas(uuid4(), APP, f"{BASE}**", 10, None, {})
    if not cas.matches(service):
        return
    parts = urlsplit(service)
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "erp.example", "")
    for path in (parts.path, unquote(parts.path), unquote(unquote(parts.path))):
        assert f"{path}/".startswith("/app/")
        assert not {"..", "."} & set(path.split("/"))
        assert not any(one in path for one in ("//", "\\", ";", "#", "\x00"))


@DOOR
@given(mutated(), st.text(max_size=30), st.booleans())
def test_fz_01_the_saml_door_never_fails(world: World, message: bytes, relay_state: str, posted: bool) -> None:
    data = {"SAMLRequest": base64.b64encode(message).decode(), "RelayState": relay_state}
    if posted:
        answer = world.call("POST", "/saml/sso", data=data)
    else:
        query = urlencode({**data, "SAMLRequest": deflated(message)}, errors="surrogatepass")
        answer = world.call("GET", f"/saml/sso?{query}")
    assert answer.status_code in {200, 303, 400}


@DOOR
@given(st.text(max_size=60), st.text(max_size=60), st.sampled_from(["", "JSON", "xml", "\x00"]))
def test_fz_01_the_cas_doors_never_fail(world: World, service: str, ticket: str, form: str) -> None:
    query = urlencode({"service": service, "ticket": ticket, "format": form, "renew": form}, errors="surrogatepass")
    answer = world.call("GET", f"/cas/p3/serviceValidate?{query}")
    assert answer.status_code == 200
    assert world.call("GET", f"/cas/login?{query}").status_code in {303, 400}
