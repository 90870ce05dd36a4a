"""Attacks on the SAML door, by their case ids (section SA)."""

from __future__ import annotations

import base64
import copy
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

import pytest
from lxml import etree
from werkzeug.test import TestResponse

from identity.apps.inputs import SamlInput
from identity.apps.service import set_application_status
from tests.integration.saml.sp import (
    ACS,
    BASE,
    DS,
    ENTITY,
    PERSISTENT,
    RSA_SHA1,
    RSA_SHA256,
    SAML,
    SAMLP,
    Sp,
    deflated,
    key_pair,
    posted,
    redirect_query,
    request_xml,
    response_of,
    send,
    send_post,
    signed_query,
    signed_xml,
    statuses,
)
from tests.integration.test_main_job import kinds
from tests.world import Browser, World


def refused(answer: TestResponse) -> bool:
    """A page of ours, no message to anybody."""
    assert answer.status_code == 400, (answer.status_code, answer.text[-400:])
    assert "data-autopost" not in answer.text
    assert "Location" not in answer.headers
    return True


def member(world: World) -> Browser:
    world.person("zhang", "staff")
    browser = world.browser()
    browser.sign_in("zhang")
    return browser


def by_query(browser: Browser, query: str) -> TestResponse:
    return browser.follow(browser.go(f"/saml/sso?{query}"))


def test_sa_02_what_is_no_message_is_a_page(world: World) -> None:
    Sp(world)
    browser = member(world)
    valid = deflated(request_xml())
    for value in ("", "%%%", "abc", "QUJD", base64.b64encode(b"<xml").decode(), deflated(b"plain"), deflated(b"<a/>")):
        assert refused(by_query(browser, urlencode({"SAMLRequest": value})))
    for data in ({}, {"SAMLRequest": ""}, {"SAMLRequest": "!!"}, {"SAMLRequest": valid}, {"SAMLResponse": valid}):
        assert refused(browser.client.post("/saml/sso", data=data, base_url=BASE))
    for query in ("", "SAMLResponse=" + quote(valid), "SAMLRequest=" + quote(valid) + "&SAMLEncoding=x", "%ff=%ff"):
        assert refused(by_query(browser, query))
    assert kinds(world).count("saml.request.refused") == 16
    assert "saml.assertion.issued" not in kinds(world)


@pytest.mark.case("ST-06")
def test_sa_03_nobody_is_answered_for_an_unknown_issuer(world: World) -> None:
    Sp(world)
    browser = member(world)
    two = f"<saml:Issuer>{ENTITY}</saml:Issuer>"
    for message in (
        request_xml(Issuer="https://evil.example"),
        request_xml(Issuer=None),
        request_xml(two),
        request_xml(Issuer=f"{ENTITY}<saml:x/>.evil"),
        request_xml(Issuer=f"{ENTITY}<!-- -->.evil"),
    ):
        assert refused(send(browser, message))
        assert refused(send_post(browser, message))
    with world.unit() as unit:
        set_application_status(unit, "expense", "disabled", 2)
    assert refused(send(browser, request_xml()))


@pytest.mark.case("SA-05", "SA-06")
def test_only_registered_consumer_addresses_are_answered(world: World) -> None:
    Sp(world)
    browser = member(world)
    for url in (
        "https://SP.example/acs",
        "https://sp.example:443/acs",
        f"{ACS}/",
        f"{ACS}?x",
        f"{ACS}#",
        "https://sp.example@evil.example/acs",
        "javascript:alert(1)",
        "",
    ):
        assert refused(send(browser, request_xml(AssertionConsumerServiceURL=url)))
    for index in ("1", "-1", "00", "x"):
        assert refused(
            send(browser, request_xml(AssertionConsumerServiceURL=None, AssertionConsumerServiceIndex=index))
        )
    assert refused(send(browser, request_xml(AssertionConsumerServiceIndex="0")))
    answer = send(browser, request_xml(AssertionConsumerServiceURL=None, AssertionConsumerServiceIndex="7"))
    assert posted(answer)[0] == f"{ACS}2"
    assert posted(send(browser, request_xml(AssertionConsumerServiceURL=None)))[0] == ACS


@pytest.mark.case("SA-07", "SA-09")
def test_another_binding_or_version_is_told_to_the_service_provider(world: World) -> None:
    Sp(world)
    browser = member(world)
    artifact = request_xml(ProtocolBinding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Artifact")
    assert statuses(send(browser, artifact)) == ["Requester", "UnsupportedBinding"]
    assert statuses(send(browser, request_xml(Version="1.1"))) == ["VersionMismatch"]


@pytest.mark.case("SA-08", "SA-10")
def test_a_message_for_another_place_or_time_is_refused(world: World) -> None:
    sp = Sp(world)
    browser = member(world)
    for destination in ("https://other.example/saml/sso", f"{BASE}/saml/slo", f"{BASE}/saml/sso/", ""):
        assert refused(send(browser, request_xml(Destination=destination)))
    nowhere = request_xml(Destination=None)
    assert statuses(send(browser, nowhere)) == ["Success"]
    assert refused(send_post(browser, signed_xml(nowhere, sp.key, sp.certificate)))
    assert refused(by_query(browser, signed_query(nowhere, sp.key)))
    now = datetime.now(UTC)
    for minutes in (-10, -4, 4, 60 * 24 * 365 * 50):
        assert refused(send(browser, request_xml(now=now + timedelta(minutes=minutes))))
    for text in ("", "yesterday", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-02-30T00:00:00Z"):
        assert refused(send(browser, request_xml(IssueInstant=text)))
    assert statuses(send(browser, request_xml(now=now - timedelta(minutes=2)))) == ["Success"]


def test_sa_11_a_request_that_must_be_signed_is(world: World) -> None:
    sp = Sp(world, options={"want_signed_requests": True})
    browser = member(world)
    assert refused(send(browser, request_xml()))
    assert refused(send_post(browser, request_xml()))
    assert statuses(by_query(browser, signed_query(request_xml(), sp.key))) == ["Success"]
    assert statuses(send_post(browser, signed_xml(request_xml(), sp.key, sp.certificate))) == ["Success"]
    # A signature inside a Redirect's message counts for nothing (Bindings §3.4.4.1).
    assert refused(send(browser, signed_xml(request_xml(), sp.key, sp.certificate)))


def test_sa_12_a_redirect_is_verified_over_its_octets(world: World) -> None:
    sp = Sp(world, options={"want_signed_requests": True})
    browser = member(world)
    query = signed_query(request_xml(), sp.key, "a b/c")
    parts = query.split("&")
    assert statuses(by_query(browser, query)) == ["Success"]
    # Any order is one signature, since the octets that are signed are put together in the order of the binding.
    assert statuses(by_query(browser, "&".join(reversed(parts)))) == ["Success"]
    relay = next(one for one in parts if one.startswith("RelayState="))
    for other in (
        query.replace("%2F", "%2f"),
        query.replace("a+b", "a%20b"),
        query.replace(relay, "RelayState=evil"),
        query.replace(f"&{relay}", ""),
        f"{query}&{relay}",
        f"SAMLRequest={quote(deflated(request_xml(ID='_evil')))}&{query}",
        "&".join(one for one in parts if not one.startswith("SigAlg=")),
        "&".join(one for one in parts if not one.startswith("Signature=")),
        query.replace("Signature=", "Signature=AAAA"),
        query[:-8],
        "&".join(parts[:-1]) + "&Signature=",
    ):
        assert refused(by_query(browser, other)), other
    # What else stands in the query of a POST is not read.
    headers = {"Sec-Fetch-Site": "cross-site"}
    data = {"SAMLRequest": base64.b64encode(request_xml()).decode()}
    assert refused(browser.client.post(f"/saml/sso?{query}", data=data, headers=headers, base_url=BASE))


@pytest.mark.case("SA-13", "SA-42")
def test_weak_signature_algorithms_are_refused(world: World) -> None:
    sp = Sp(world)
    browser = member(world)
    assert refused(by_query(browser, signed_query(request_xml(), sp.key, algorithm=RSA_SHA1)))
    assert refused(send_post(browser, signed_xml(request_xml(), sp.key, sp.certificate, RSA_SHA1)))
    signed = signed_xml(request_xml(), sp.key, sp.certificate).decode()
    for other in (
        "http://www.w3.org/2000/09/xmldsig#hmac-sha1",
        "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256",
        "http://www.w3.org/2000/09/xmldsig#dsa-sha1",
        "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256",
        "",
    ):
        assert refused(send_post(browser, signed.replace(RSA_SHA256, other).encode()))
        query = signed_query(request_xml(), sp.key)
        assert refused(by_query(browser, query.replace(quote(RSA_SHA256, safe=""), quote(other, safe=""))))
    digest = signed.replace("http://www.w3.org/2001/04/xmlenc#sha256", "http://www.w3.org/2000/09/xmldsig#sha1")
    assert refused(send_post(browser, digest.encode()))


def test_sa_15_a_repeated_request_is_a_new_sign_in_and_never_an_old_assertion(world: World) -> None:
    sp = Sp(world, options={"want_signed_requests": True})
    browser = member(world)
    query = signed_query(request_xml(), sp.key)
    first, second = (response_of(by_query(browser, query)) for _ in range(2))
    ids = [one.find(f".//{{{SAML}}}Assertion").get("ID") for one in (first, second)]
    assert ids[0] != ids[1]
    assert 'name="password"' in by_query(world.browser(), query).text


@pytest.mark.case("SA-19", "SA-30", "SA-44", "SA-45")
def test_only_the_registered_key_and_one_plain_signature_count(world: World) -> None:
    sp = Sp(world)
    browser = member(world)
    other_key, other_certificate = key_pair("attacker")
    assert refused(send_post(browser, signed_xml(request_xml(), other_key, other_certificate)))
    assert refused(by_query(browser, signed_query(request_xml(), other_key)))
    good = signed_xml(request_xml(), sp.key, sp.certificate).decode()
    assert statuses(send_post(browser, good.encode())) == ["Success"]
    value = good.partition("<ds:SignatureValue>")[2].partition("<")[0]
    info = (
        "<ds:SignedInfo>" + good.partition("<ds:SignedInfo>")[2].partition("</ds:SignedInfo>")[0] + "</ds:SignedInfo>"
    )
    retrieval = f'<ds:KeyInfo><ds:RetrievalMethod URI="{BASE}/x"/></ds:KeyInfo>'
    for broken in (
        good.replace(value, ""),
        good.replace(value, "AAAA"),
        good.replace(value, value.strip() * 8),
        good.replace(value, f"<!-- -->{value}"),
        good.replace(info, info + info),
        good.replace("<ds:DigestValue>", "<ds:DigestValue><!---->"),
        good.replace('ForceAuthn="true"', "").replace("Version=", 'ForceAuthn="true" Version='),
        good.replace("<ds:KeyInfo>", retrieval + "<ds:KeyInfo>").replace(value, "AAAA"),
    ):
        assert refused(send_post(browser, broken.encode())), broken


@pytest.mark.case("SA-20", "SA-21", "SA-22", "SA-23", "SA-24", "SA-25", "SA-26", "SA-27", "SA-28", "SA-50")
def test_no_arrangement_wraps_a_signed_request(world: World) -> None:
    """XSW: a changed request in every place around, before, behind and inside the signed one and its signature."""
    sp = Sp(world, options={"want_signed_requests": True})
    browser = member(world)
    signed = etree.fromstring(signed_xml(request_xml(), sp.key, sp.certificate))
    bare = copy.deepcopy(signed)
    signature = bare.find(f"{{{DS}}}Signature")
    bare.remove(signature)
    tried = 0
    for new_id in ("_evil", "_r1"):
        for keep_signature in (True, False):
            evil = etree.fromstring(request_xml(ID=new_id, ForceAuthn="true"))
            for wrapped in _wrapped(evil, signed, bare, signature, keep_signature=keep_signature):
                answer = send_post(browser, etree.tostring(wrapped))
                assert refused(answer), etree.tostring(wrapped).decode()
                tried += 1
    assert tried >= 20
    assert "saml.assertion.issued" not in kinds(world)


def _wrapped(evil, signed, bare, signature, *, keep_signature):  # type: ignore[no-untyped-def]
    """Every way of putting the two requests and the signature into one document, `evil` or a wrapper as its root."""

    def extensions(*children):  # type: ignore[no-untyped-def]
        element = etree.Element(f"{{{SAMLP}}}Extensions")
        element.extend(copy.deepcopy(one) for one in children)
        return element

    def in_object(child):  # type: ignore[no-untyped-def]
        made = copy.deepcopy(signature)
        etree.SubElement(made, f"{{{DS}}}Object").append(copy.deepcopy(child))
        return made

    original = signed if keep_signature else bare
    for place in (0, 1, 2):
        for child in (original, extensions(original), in_object(original)):
            root = copy.deepcopy(evil)
            root.insert(place, copy.deepcopy(child))
            if not keep_signature:
                root.insert(1, copy.deepcopy(signature))
            yield root
    wrapper = etree.Element(f"{{{SAMLP}}}Response", ID="_w")
    wrapper.extend([copy.deepcopy(evil), copy.deepcopy(original)])
    yield wrapper
    root = copy.deepcopy(original)
    root.append(copy.deepcopy(evil))
    yield root
    root = copy.deepcopy(evil)
    root.append(copy.deepcopy(signature))
    root.set("{http://www.w3.org/XML/1998/namespace}id", "_r1")
    yield root


@pytest.mark.case("SA-37", "SA-38", "SA-39", "SA-40", "SA-41", "SA-43", "DO-13")
def test_hostile_documents_are_refused_cheaply(world: World) -> None:
    sp = Sp(world)
    browser = member(world)
    plain = request_xml().decode()
    lol = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "lol"}">' for n in range(10))
    signed = signed_xml(request_xml(), sp.key, sp.certificate).decode()
    reference = (
        "<ds:Reference" + signed.partition("<ds:Reference")[2].partition("</ds:Reference>")[0] + "</ds:Reference>"
    )
    hostile = [
        f"<!DOCTYPE a>{plain}",
        f'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>{plain.replace(ENTITY, "&x;")}',
        f'<!DOCTYPE a [<!ENTITY % x SYSTEM "{BASE}/x">%x;]>{plain}',
        f"<!DOCTYPE a [{lol}]>{plain.replace(ENTITY, '&l9;')}",
        plain.replace("Version=", 'xmlns:x="1" x:a="1" Version="2.0" Version='),
        "<a>" * 100 + "</a>" * 100,
        plain.replace("</saml:Issuer>", "</saml:Issuer>" + "<a/>" * 20_000),
        plain.replace(">", " " + " ".join(f'a{n}="1"' for n in range(9_000)) + ">", 1) * 2,
        plain.replace("</samlp:", "x" * 300_000 + "</samlp:"),
        plain.replace("</samlp:", '<?xml-stylesheet href="x"?></samlp:'),
        signed.replace(reference, reference * 50),
        signed.replace(
            "http://www.w3.org/2000/09/xmldsig#enveloped-signature", "http://www.w3.org/TR/1999/REC-xslt-19991116"
        ),
        signed.replace('URI="#_r1"', 'URI=""'),
        signed.replace('URI="#_r1"', f'URI="{BASE}/x"'),
        signed.replace('ID="_r1"', 'ID="_r1" xmlns="1"'),
        signed.replace("<saml:Issuer>", '<saml:Issuer xml:id="_r1">'),
    ]
    encoded = ["utf-16", "utf-7", "utf-32", "cp037"]
    for document in [one.encode() for one in hostile] + [
        f'<?xml version="1.0" encoding="{name}"?>{hostile[1]}'.encode(name) for name in encoded
    ]:
        started = time.process_time()
        assert refused(send_post(browser, document)), document[:200]
        assert refused(send(browser, document)) if len(deflated(document)) < 5_000 else True
        assert time.process_time() - started < 2
    bomb = deflated(b"<a>" + b"x" * 30_000_000 + b"</a>")
    for value in (
        bomb,
        deflated(request_xml())[:-8],
        base64.b64encode(base64.b64decode(deflated(b"<a/>")) + b"x").decode(),
    ):
        answer = by_query(browser, urlencode({"SAMLRequest": value}))
        assert answer.status_code in {400, 414}
    assert browser.client.post("/saml/sso", data={"SAMLRequest": bomb}, base_url=BASE).status_code == 400
    assert "saml.assertion.issued" not in kinds(world)


def test_sa_47_a_registration_that_would_weaken_is_not_taken(world: World) -> None:
    good = key_pair()[1]
    acs = [{"url": ACS}]
    for wrong in (
        {"signing_certificates": ["not a certificate"]},
        {"signing_certificates": [key_pair("weak", 1_024)[1]]},
        {"acs": [{"url": "http://sp.example/acs"}]},
        {"acs": [{"url": "javascript:alert(1)"}]},
        {"acs": []},
        {"acs": [{"url": ACS, "default": True}, {"url": f"{ACS}2", "index": 1, "default": True}]},
        {"acs": [{"url": ACS}, {"url": f"{ACS}2"}]},
        {"options": {"want_signed_requests": True}},
        {"options": {"encrypt": True}},
        {"options": {"legacy_sha1": True}},
        {"name_id_format": "urn:oasis:names:tc:SAML:2.0:nameid-format:kerberos"},
    ):
        with pytest.raises(ValueError, match="validation error"):
            SamlInput.model_validate({"entity_id": ENTITY, "acs": acs, **wrong})
    bare = "".join(line for line in good.splitlines() if "CERTIFICATE" not in line)
    taken = SamlInput.model_validate({"entity_id": ENTITY, "acs": acs, "signing_certificates": [bare]})
    assert taken.signing_certificates == (good,)


def test_sa_52_relay_state_is_given_back_as_it_is_or_refused(world: World) -> None:
    Sp(world)
    browser = member(world)
    for value in ("", "x" * 1_024, '"><script>alert(1)</script>', "ss:mem:0a1b", "张三 & ' \"", "a\nb"):
        answer = send(browser, request_xml(), value)
        assert posted(answer)[1]["RelayState"] == value
        assert "<script>alert" not in answer.text
    assert "RelayState" not in posted(send(browser, request_xml()))[1]
    for value in ("x" * 1_025, "张" * 400, "a\0b"):
        assert refused(send(browser, request_xml(), value))
    assert refused(by_query(browser, f"{redirect_query(request_xml())}&RelayState=%ff"))


@pytest.mark.case("SA-55")
def test_only_the_registered_attributes_leave(world: World) -> None:
    Sp(world, released=("preferred_username",))
    response = response_of(send(member(world), request_xml()))
    assert [one.get("FriendlyName") for one in response.iter(f"{{{SAML}}}Attribute")] == ["preferred_username"]
    assert response.find(f".//{{{SAML}}}NameID").get("Format") == PERSISTENT


def test_sa_56_other_bindings_have_no_door(world: World) -> None:
    for path in ("/saml/ecp", "/saml/soap", "/saml/artifact", "/saml/SSO", "/saml/sso/x"):
        assert world.call("POST", path, data=b"<x/>").status_code == 404
    assert world.call("PUT", "/saml/sso").status_code == 405
