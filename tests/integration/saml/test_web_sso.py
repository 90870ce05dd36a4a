"""SAML web browser single sign-on (Profiles §4.1) with a strict service provider on the other side."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from lxml import etree
from onelogin.saml2.authn_request import OneLogin_Saml2_Authn_Request

from identity.people.inputs import Profile
from identity.people.service import set_user_state, update_profile
from tests.integration.saml.sp import (
    ACS,
    EMAIL,
    ENTITY,
    NS,
    PERSISTENT,
    TRANSIENT,
    UNSPECIFIED,
    Sp,
    posted,
    request_xml,
    response_of,
    send,
    send_post,
    signed_xml,
    statuses,
)
from tests.integration.test_main_job import kinds
from tests.world import Browser, World

PASSWORD_CLASS = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"


def signed_in(world: World, login: str = "zhang") -> Browser:
    world.person(login, "staff")
    browser = world.browser()
    assert browser.sign_in(login).status_code == 200
    return browser


def with_mail(world: World, login: str = "zhang") -> Browser:
    person = world.person(login, "staff")
    with world.unit() as unit:
        update_profile(unit, person, Profile(name="张 <三> & ]]>", mail=f"{login}@example.com"))
    browser = world.browser()
    browser.sign_in(login)
    return browser


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("binding", ["redirect", "post"])
def test_a_strict_service_provider_signs_a_person_in(world: World, binding: str, signed: bool) -> None:
    sp = Sp(world, options={"want_signed_requests": signed})
    browser = with_mail(world)
    auth = sp.auth(authnRequestsSigned=signed)
    relay = 'ss:mem:"><script>&\n%00'
    if binding == "redirect":
        address = auth.login(return_to=relay)
        answer = browser.follow(browser.go(f"/saml/sso?{urlsplit(address).query}"))
        request_id = auth.get_last_request_id()
    else:
        asked = OneLogin_Saml2_Authn_Request(auth.get_settings())
        request_id, message = asked.get_id(), asked.get_xml().encode()
        answer = send_post(browser, signed_xml(message, sp.key, sp.certificate) if signed else message, relay)
    found = sp.accept(answer, request_id)
    assert posted(answer)[1]["RelayState"] == relay
    assert "<script>&" not in answer.text
    assert found.get_attributes() == {
        "preferred_username": ["zhang"],
        "name": ["张 <三> & ]]>"],
        "email": ["zhang@example.com"],
        "roles": ["employee"],
    }
    assert found.get_nameid_format() == PERSISTENT
    assert found.get_session_index()
    assert found.get_session_expiration() > datetime.now(UTC).timestamp() + 28_000
    assert "saml.assertion.issued" in kinds(world)


def test_a_person_who_is_not_signed_in_does_so_and_goes_on(world: World) -> None:
    sp = Sp(world)
    world.person("zhang", "staff")
    browser = world.browser()
    auth = sp.auth()
    start = f"/saml/sso?{urlsplit(auth.login(return_to='r')).query}"
    sp.accept(browser.sign_in("zhang", start=start), auth.get_last_request_id())


def test_wants_of_a_service_provider_are_met(world: World) -> None:
    """Signed messages, encrypted assertions, names by urn:oid with their friendly ones."""
    sp = Sp(
        world,
        options={"sign_response": True, "encrypt": True, "attribute_format": "uri"},
        encryption_certificate=Sp(world).certificate,
        aliases={"roles": "https://sp.example/roles"},
    )
    browser = with_mail(world)
    auth = sp.auth()
    answer = browser.follow(browser.go(f"/saml/sso?{urlsplit(auth.login()).query}"))
    assert b"zhang" not in base64.b64decode(posted(answer)[1]["SAMLResponse"])
    security = {"wantMessagesSigned": True, "wantAssertionsEncrypted": True, "wantNameId": True}
    found = sp.accept(answer, auth.get_last_request_id(), **security)
    assert found.get_attributes()["urn:oid:0.9.2342.19200300.100.1.1"] == ["zhang"]
    assert found.get_attributes()["https://sp.example/roles"] == ["employee"]
    assert found.get_friendlyname_attributes()["email"] == ["zhang@example.com"]


def test_sa_53_only_a_service_provider_that_allows_it_is_entered_from_our_side(world: World) -> None:
    browser = signed_in(world)
    sp = Sp(world)
    assert browser.go("/saml/start/expense").status_code == 404
    sp = Sp(world, options={"idp_initiated": True})
    answer = browser.follow(browser.go("/saml/start/expense"))
    sp.accept(answer, None)
    response = response_of(answer)
    assert response.get("InResponseTo") is None
    assert response.find(".//saml:SubjectConfirmationData", NS).get("InResponseTo") is None


def test_what_an_assertion_says_of_its_use(world: World) -> None:
    """Our own output, since service providers accept a missing Recipient or Destination (Profiles §4.1.4.2)."""
    Sp(world)
    response = response_of(send(signed_in(world), request_xml()))
    assert (response.get("Destination"), response.get("InResponseTo")) == (ACS, "_r1")
    data = response.find("saml:Assertion/saml:Subject/saml:SubjectConfirmation/saml:SubjectConfirmationData", NS)
    assert (data.get("Recipient"), data.get("InResponseTo"), data.get("NotBefore")) == (ACS, "_r1", None)
    audiences = response.findall("saml:Assertion/saml:Conditions/saml:AudienceRestriction/saml:Audience", NS)
    assert [one.text for one in audiences] == [ENTITY]
    assert len(response.findall(".//saml:Assertion", NS)) == len(response.findall(".//ds:Signature", NS)) == 1
    methods = {one.get("Algorithm") for one in response.iter() if one.get("Algorithm")}
    assert not any("sha1" in one for one in methods)
    assert response.find(".//saml:AuthnStatement", NS).get("SessionNotOnOrAfter")


@pytest.mark.parametrize("name_format", [PERSISTENT, TRANSIENT, EMAIL, UNSPECIFIED])
def test_name_ids_in_the_format_of_the_registration(world: World, name_format: str) -> None:
    Sp(world, name_id_format=name_format)
    browser = with_mail(world)
    values = []
    for _ in range(2):
        found = response_of(send(browser, request_xml())).find(".//saml:NameID", NS)
        assert found.get("Format") == name_format
        values.append(found.text)
    expected = {EMAIL: "zhang@example.com", UNSPECIFIED: "zhang"}
    assert (values[0] == values[1]) == (name_format != TRANSIENT)
    assert values[0] == expected.get(name_format, values[0])
    assert "zhang" not in values[0] or name_format in expected


def test_name_id_policy(world: World) -> None:
    Sp(world, released=("preferred_username", "roles"))
    browser = signed_in(world)

    def ask(**policy: str) -> Any:
        written = " ".join(f'{name}="{value}"' for name, value in policy.items())
        return send(browser, request_xml(f"<samlp:NameIDPolicy {written}/>"))

    refused = ["Requester", "InvalidNameIDPolicy"]
    assert statuses(ask(AllowCreate="false")) == refused
    assert statuses(ask(Format=PERSISTENT, AllowCreate="true")) == ["Success"]
    assert statuses(ask(AllowCreate="false")) == ["Success"]
    assert statuses(ask(Format=EMAIL)) == refused
    assert statuses(ask(Format=PERSISTENT, SPNameQualifier="https://other.example")) == refused
    name_id = response_of(ask(Format=TRANSIENT)).find(".//saml:NameID", NS)
    assert (name_id.get("Format"), len(name_id.text)) == (TRANSIENT, 41)
    Sp(world, name_id_format=EMAIL, released=("preferred_username", "roles"))
    assert statuses(send(browser, request_xml())) == refused


def test_force_authn_asks_again_and_the_answer_is_fresh(world: World) -> None:
    Sp(world)
    browser = signed_in(world)
    first = response_of(send(browser, request_xml())).find(".//saml:AuthnStatement", NS).get("AuthnInstant")
    page = send(browser, request_xml(ForceAuthn="true"))
    assert 'name="password"' in page.text
    answer = browser.sign_in("zhang", start=page.request.path + "?" + page.request.query_string.decode())
    again = response_of(answer).find(".//saml:AuthnStatement", NS).get("AuthnInstant")
    assert again >= first


def test_is_passive_never_shows_a_page(world: World) -> None:
    Sp(world)
    stranger = world.browser()
    passive = ["Responder", "NoPassive"]
    assert statuses(send(stranger, request_xml(IsPassive="true"))) == passive
    assert statuses(send_post(stranger, request_xml(IsPassive="1"))) == passive
    browser = signed_in(world)
    assert statuses(send(browser, request_xml(IsPassive="true"))) == ["Success"]
    # A fresh sign-in without a page cannot be had.
    assert statuses(send(browser, request_xml(IsPassive="true", ForceAuthn="true"))) == passive


def test_requested_authn_context(world: World) -> None:
    sp = Sp(world)
    browser = signed_in(world)

    def ask(*classes: str, comparison: str = "exact") -> Any:
        refs = "".join(f"<saml:AuthnContextClassRef>{one}</saml:AuthnContextClassRef>" for one in classes)
        inner = f'<samlp:RequestedAuthnContext Comparison="{comparison}">{refs}</samlp:RequestedAuthnContext>'
        return send(browser, request_xml(inner))

    for wanted in (PASSWORD_CLASS, "urn:oasis:names:tc:SAML:2.0:ac:classes:unspecified"):
        answer = ask("urn:oasis:names:tc:SAML:2.0:ac:classes:X509", wanted)
        assert response_of(answer).find(".//saml:AuthnContextClassRef", NS).text == wanted
    none = ["Responder", "NoAuthnContext"]
    assert statuses(ask("urn:oasis:names:tc:SAML:2.0:ac:classes:X509")) == none
    assert statuses(ask()) == none
    # A second factor is asked for where one is wanted; it is never claimed from a password.
    assert "/login/enrol" in ask("https://refeds.org/profile/mfa").request.path
    assert "/login/enrol" in ask(PASSWORD_CLASS, comparison="better").request.path
    auth = sp.auth(requestedAuthnContext=[PASSWORD_CLASS])
    answer = browser.follow(browser.go(f"/saml/sso?{urlsplit(auth.login()).query}"))
    sp.accept(answer, auth.get_last_request_id(), requestedAuthnContext=[PASSWORD_CLASS])


def test_the_answer_is_about_the_subject_that_was_asked_for_or_nobody(world: World) -> None:
    Sp(world)
    browser = signed_in(world)
    other = signed_in(world, "li")
    own = response_of(send(browser, request_xml())).find(".//saml:NameID", NS).text

    def subject(value: str, name_format: str = PERSISTENT, more: str = "") -> bytes:
        name_id = f'<saml:NameID Format="{name_format}">{value}</saml:NameID>'
        return request_xml(f"<saml:Subject>{name_id}{more}</saml:Subject>")

    assert statuses(send(browser, subject(own))) == ["Success"]
    assert statuses(send(browser, subject("zhang", UNSPECIFIED.replace("unspecified", "x")))) != ["Success"]
    unknown = ["Responder", "UnknownPrincipal"]
    assert statuses(send(other, subject(own))) == unknown
    assert statuses(send(browser, subject("_nobody"))) == unknown
    # Without a session nobody learns whether the name exists.
    pages = [send(world.browser(), subject(one)).text.count('name="password"') for one in (own, "_nobody")]
    assert pages == [1, 1]
    confirmed = '<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"/>'
    assert statuses(send(browser, subject(own, more=confirmed))) == ["Requester", "RequestUnsupported"]


def test_what_the_policy_or_the_account_refuses_goes_back_as_a_status(world: World) -> None:
    sp = Sp(world)
    world.person("guest")
    browser = world.browser()
    browser.sign_in("guest")
    answer = send(browser, request_xml(), "r")
    assert statuses(answer) == ["Responder", "RequestDenied"]
    assert posted(answer)[1]["RelayState"] == "r"
    auth = sp.auth(posted(answer)[1])
    auth.process_response(request_id="_r1")
    assert not auth.is_authenticated()
    assert response_of(answer).find("saml:Assertion", NS) is None
    assert response_of(answer).find("ds:Signature", NS) is not None
    assert "saml.assertion.issued" not in kinds(world)


@pytest.mark.case("ST-01")
def test_a_disabled_person_gets_no_assertion_from_a_live_session(world: World) -> None:
    Sp(world, options={"idp_initiated": True})
    person = world.person("zhang", "staff")
    browser = world.browser()
    browser.sign_in("zhang")
    with world.unit() as unit:
        set_user_state(unit, person, "disabled", cause="test")
    assert 'name="password"' in send(browser, request_xml()).text
    assert 'name="password"' in browser.follow(browser.go("/saml/start/expense")).text


def test_metadata_is_what_service_providers_read(world: World) -> None:
    root = etree.fromstring(world.call("GET", "/saml/metadata").data)
    md = {"md": "urn:oasis:names:tc:SAML:2.0:metadata", "ds": NS["ds"]}
    assert root.get("entityID") == "http://localhost:8000/saml/metadata"
    locations = {one.get("Binding")[-8:]: one.get("Location") for one in root.findall(".//md:SingleSignOnService", md)}
    assert set(locations.values()) == {"http://localhost:8000/saml/sso"}
    assert len(locations) == 2
    assert len(root.findall(".//md:KeyDescriptor[@use='signing']//ds:X509Certificate", md)) == 1
    assert root.get("validUntil") > datetime.now(UTC).isoformat()
