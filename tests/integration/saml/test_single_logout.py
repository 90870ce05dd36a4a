"""SAML single logout (Profiles §4.4): a signed request ends the session, and the browser tells the other providers."""

from __future__ import annotations

import base64
import zlib
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode, urlsplit

import pytest
import xmlsec
from lxml import etree
from onelogin.saml2.auth import OneLogin_Saml2_Auth
from onelogin.saml2.utils import OneLogin_Saml2_Utils
from werkzeug.test import TestResponse

from identity.apps.inputs import SamlInput
from identity.apps.service import get_application, put_saml_sp
from tests.integration.saml.sp import (
    ACS,
    BASE,
    ENTITY,
    NS,
    PERSISTENT,
    SAML,
    SAMLP,
    Sp,
    key_pair,
    query_of,
    redirect_query,
    request_xml,
    response_of,
    send,
    signed_query,
    signed_xml,
)
from tests.world import Browser, World

SLO = "https://sp.example/slo"
TWO = "https://two.example/metadata"
TWO_SLO = "https://two.example/slo?app=2"
HERE = f"{BASE}/saml/slo"


def providers(world: World) -> Sp:
    """Two service providers of one application that take part in logouts."""
    sp = Sp(world, options={"slo_url": SLO})
    given = {
        "entity_id": TWO,
        "acs": [{"url": "https://two.example/acs", "default": True}],
        "signing_certificates": [key_pair("two")[1]],
        "options": {"slo_url": TWO_SLO},
    }
    with world.unit() as unit:
        put_saml_sp(unit, get_application(unit, "expense"), SamlInput.model_validate(given))
    return sp


def entered(browser: Browser, entity: str = ENTITY) -> tuple[str, str]:
    """Sign in to a service provider: the NameID and session index that it keeps."""
    acs = ACS if entity == ENTITY else None
    response = response_of(send(browser, request_xml(Issuer=entity, AssertionConsumerServiceURL=acs)))
    statement = response.find(".//saml:AuthnStatement", NS)
    return response.find(".//saml:NameID", NS).text, statement.get("SessionIndex")


def member(world: World, login: str = "zhang") -> Browser:
    world.person(login, "staff")
    browser = world.browser()
    browser.sign_in(login)
    return browser


def is_signed_in(browser: Browser) -> bool:
    return 'name="password"' not in browser.follow(browser.go("/")).text


def logout_xml(name_id: str, *indexes: str, **attributes: str | None) -> bytes:
    stated = {
        "ID": "_l1",
        "Version": "2.0",
        "IssueInstant": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "Destination": HERE,
        **attributes,
    }
    issuer = stated.pop("Issuer", ENTITY)
    written = " ".join(f'{name}="{value}"' for name, value in stated.items() if value is not None)
    parts = f"<saml:Issuer>{issuer}</saml:Issuer><saml:NameID Format='{PERSISTENT}'>{name_id}</saml:NameID>"
    parts += "".join(f"<samlp:SessionIndex>{one}</samlp:SessionIndex>" for one in indexes)
    root = f'samlp:LogoutRequest xmlns:samlp="{SAMLP}" xmlns:saml="{SAML}" {written}'
    return f"<{root}>{parts}</samlp:LogoutRequest>".encode()


def answer_of(location: str, status: str, key: str, issuer: str = TWO) -> str:
    """What a service provider sends back for the LogoutRequest at this address."""
    sent = read(location, "SAMLRequest")
    code = f'<samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:{status}"/>'
    message = (
        f'<samlp:LogoutResponse xmlns:samlp="{SAMLP}" xmlns:saml="{SAML}" ID="_a1" Version="2.0" '
        f'IssueInstant="{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}" Destination="{HERE}" InResponseTo="{sent.get("ID")}">'
        f"<saml:Issuer>{issuer}</saml:Issuer><samlp:Status>{code}</samlp:Status></samlp:LogoutResponse>"
    )
    query = signed_query(message.encode(), key).replace("SAMLRequest=", "SAMLResponse=", 1)
    return resigned(query, key)


def resigned(query: str, key: str) -> str:
    """The query with a signature over its octets as they are now."""
    signed = query.partition("&Signature=")[0]
    value = OneLogin_Saml2_Utils.sign_binary(signed, key, xmlsec.constants.TransformRsaSha256)
    return f"{signed}&{urlencode({'Signature': base64.b64encode(value).decode()})}"


def read(location: str, field: str) -> etree._Element:
    return etree.fromstring(zlib.decompress(base64.b64decode(query_of(location)[field]), -zlib.MAX_WBITS))


def heard(sp: Sp, location: str, request_id: str) -> OneLogin_Saml2_Auth:
    """What python3-saml makes of our LogoutResponse."""
    assert location.startswith(f"{SLO}?")
    auth = sp.auth(logoutResponseSigned=True, wantMessagesSigned=True)
    auth._request_data |= {
        "get_data": query_of(location),
        "query_string": urlsplit(location).query,
        "script_name": "/slo",
    }
    auth.process_slo(keep_local_session=True, request_id=request_id)
    return auth


def test_a_strict_service_provider_logs_out(world: World) -> None:
    sp = providers(world)
    browser = member(world)
    name_id, index = entered(browser)
    auth = sp.auth(logoutRequestSigned=True)
    address = auth.logout(return_to="relay", name_id=name_id, session_index=index, name_id_format=PERSISTENT)
    assert address.startswith(HERE)
    answer = browser.follow(browser.go(f"/saml/slo?{urlsplit(address).query}"))
    done = heard(sp, answer.headers["Location"], auth.get_last_request_id())
    assert done.get_errors() == [], done.get_last_error_reason()
    assert query_of(answer.headers["Location"])["RelayState"] == "relay"
    assert not is_signed_in(browser)
    reasons = [one["reason"] for one in world.records() if one["kind"] == "login.session.ended"]
    assert reasons == ["saml_logout"]


def test_the_other_service_providers_hear_before_the_answer(world: World) -> None:
    sp = providers(world)
    browser = member(world)
    name_id, index = entered(browser)
    other_name, other_index = entered(browser, TWO)
    answer = browser.follow(browser.go(f"/saml/slo?{signed_query(logout_xml(name_id, index), sp.key, 'r')}"))
    location = answer.headers["Location"]
    assert location.startswith(f"{TWO_SLO}&SAMLRequest=")
    told = read(location, "SAMLRequest")
    assert told.findtext("saml:NameID", namespaces=NS) == other_name
    assert told.findtext("samlp:SessionIndex", namespaces=NS) == other_index
    assert told.get("Destination") == TWO_SLO
    wrong = answer_of(location, "Success", sp.key, ENTITY)
    assert browser.go(f"/saml/slo?{wrong}").status_code == 400
    back = browser.follow(browser.go(f"/saml/slo?{answer_of(location, 'Success', key_pair('two')[0])}"))
    done = heard(sp, back.headers["Location"], "_l1")
    assert done.get_errors() == [], done.get_last_error_reason()
    again = browser.go(f"/saml/slo?{answer_of(location, 'Success', key_pair('two')[0])}")
    assert again.status_code == 400


@pytest.mark.case("SA-51")
@pytest.mark.parametrize("down", [True, False])
def test_a_service_provider_that_fails_makes_the_logout_partial(world: World, down: bool) -> None:
    sp = providers(world)
    browser = member(world)
    name_id, index = entered(browser)
    entered(browser, TWO)
    first = browser.go(f"/saml/slo?{signed_query(logout_xml(name_id, index), sp.key)}")
    walk = first.headers["Location"]
    sent = browser.go(walk).headers["Location"]
    assert not is_signed_in(browser)
    if down:  # the person comes back and loads the page again
        answer = browser.go(walk)
    else:
        answer = browser.follow(browser.go(f"/saml/slo?{answer_of(sent, 'Responder', key_pair('two')[0])}"))
    codes = [
        one.get("Value") for one in read(answer.headers["Location"], "SAMLResponse").iter(f"{{{SAMLP}}}StatusCode")
    ]
    assert [one.rpartition(":")[2] for one in codes] == ["Success", "PartialLogout"]


def signed_out(browser: Browser) -> TestResponse:
    page = browser.go("/logout")
    token = page.text.partition('name="csrf_token" value="')[2].partition('"')[0]
    return browser.follow(browser.client.post("/logout", data={"csrf_token": token}, base_url=BASE))


def test_our_own_logout_goes_by_way_of_every_service_provider(world: World) -> None:
    providers(world)
    browser = member(world)
    entered(browser)
    entered(browser, TWO)
    answer = signed_out(browser)
    for slo_url, issuer, key in ((SLO, ENTITY, key_pair()[0]), (TWO_SLO, TWO, key_pair("two")[0])):
        location = answer.headers["Location"]
        assert location.startswith(slo_url)
        assert not is_signed_in(browser)
        answer = browser.follow(browser.go(f"/saml/slo?{answer_of(location, 'Success', key, issuer)}"))
    assert answer.status_code == 200
    assert "could not be told" not in answer.text
    assert "You are signed out." in answer.text


def test_who_was_not_reached_is_named_and_a_walk_is_nobody_elses(world: World) -> None:
    providers(world)
    browser = member(world)
    entered(browser)
    page = browser.go("/logout")
    token = page.text.partition('name="csrf_token" value="')[2].partition('"')[0]
    walk = browser.client.post("/logout", data={"csrf_token": token}, base_url=BASE).headers["Location"]
    for other in (walk[:-1], walk.partition(".")[0], "/saml/logout/x", f"{walk}0", "/saml/logout/%00"):
        assert browser.go(other).status_code in {400, 404}
    assert browser.go(walk).headers["Location"].startswith(SLO)
    again = browser.go(walk)
    assert again.status_code == 200
    assert "报销" in again.text


@pytest.mark.case("SA-49", "SA-50", "LO-10")
def test_a_logout_request_of_anybody_else_ends_nothing(world: World) -> None:
    sp = providers(world)
    browser = member(world)
    other = member(world, "li")
    name_id, index = entered(browser)
    other_name, other_index = entered(other)
    two_name, two_index = entered(browser, TWO)
    now = datetime.now(UTC)
    good = logout_xml(name_id, index)
    past = (now - timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    signed = signed_xml(good, sp.key, sp.certificate)
    wrapped = good.replace(b"</saml:Issuer>", b"</saml:Issuer>" + signed).replace(b'"_l1"', b'"_l2"', 1)
    refused = [
        redirect_query(good),
        signed_query(good, key_pair("two")[0]),
        signed_query(logout_xml(name_id, index, NotOnOrAfter=past), sp.key),
        signed_query(logout_xml(name_id, index, Destination=f"{BASE}/saml/sso"), sp.key),
        signed_query(logout_xml(name_id, index, Destination=None), sp.key),
        signed_query(logout_xml(name_id, index, IssueInstant="2020-01-01T00:00:00Z"), sp.key),
        signed_query(logout_xml(name_id, index, Version="1.1"), sp.key),
        signed_query(logout_xml(name_id, index, Issuer="https://evil.example"), sp.key),
        signed_query(logout_xml(f"{name_id}<!-- -->", index), sp.key),
        signed_query(request_xml(Destination=HERE), sp.key),
    ]
    for query in refused:
        assert browser.go(f"/saml/slo?{query}").status_code == 400, query
    for document in (good, wrapped):
        data = {"SAMLRequest": base64.b64encode(document).decode()}
        assert world.call("POST", "/saml/slo", data=data).status_code == 400
    nobody = [
        logout_xml(other_name, index),
        logout_xml(name_id, other_index),
        logout_xml(two_name, two_index) if two_name != name_id else logout_xml("x"),
        logout_xml("_nobody"),
        logout_xml(name_id, "_guess"),
    ]
    for message in nobody:
        answer = browser.go(f"/saml/slo?{signed_query(message, sp.key)}")
        code = read(answer.headers["Location"], "SAMLResponse").findall(".//samlp:StatusCode", NS)[-1]
        assert code.get("Value").endswith("UnknownPrincipal"), message
    assert is_signed_in(browser)
    assert is_signed_in(other)
    # The same by POST from another site, without any cookie: the signature is what counts.
    data = {"SAMLRequest": base64.b64encode(signed).decode()}
    assert world.call("POST", "/saml/slo", data=data).status_code == 303
    assert not is_signed_in(browser)
    assert is_signed_in(other)
    replayed = world.call("POST", "/saml/slo", data=data)
    code = read(replayed.headers["Location"], "SAMLResponse").findall(".//samlp:StatusCode", NS)[-1]
    assert code.get("Value").endswith("UnknownPrincipal")


def test_without_a_session_index_all_sessions_of_the_person_end(world: World) -> None:
    sp = providers(world)
    first = member(world)
    second = world.browser()
    second.sign_in("zhang")
    name_id, _ = entered(first)
    entered(second)
    first.follow(first.go(f"/saml/slo?{signed_query(logout_xml(name_id), sp.key)}"))
    assert not is_signed_in(first)
    assert not is_signed_in(second)
