"""Attacks on what every request passes: headers, encodings, sizes, keys, defaults (sections HD, DO, ER, KY, DF)."""

from __future__ import annotations

import base64
import json
import secrets
import stat
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from werkzeug.test import Client

from identity.app import create_app
from identity.core.errors import Invalid
from identity.core.settings import Settings, SettingsError
from identity.keys.keyring import Keyring
from identity.keys.wrap import load_root, unwrap, wrap
from identity.people.models import User
from tests.unit.test_hot import edge_of
from tests.world import World

TEXT = {"Content-Type": "application/x-www-form-urlencoded"}
PAGES = ("/", "/login", "/logout", "/oauth/authorize", "/saml/sso", "/saml/metadata", "/cas/login", "/nothing")
HOT = (
    "/oauth/jwks",
    "/.well-known/openid-configuration",
    "/oauth/userinfo",
    "/cas/serviceValidate",
    "/readyz",
    "/.well-known/authzen-configuration",
)


def test_hd_01_any_authorization_header_is_answered(world: World) -> None:
    basic = base64.b64encode(b"expense:" + world.secret.encode()).decode()
    for value in (
        "Bearer",
        "Bearer  x",
        "bearer x",
        "Basic",
        "Basic !!",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"\xff:\xfe").decode(),
        "Basic " + base64.b64encode(b"%00:%ff").decode(),
        f"Basic {basic}, Basic {basic}",
        "Digest username=x",
        "x" * 100_000,
        "Basic " + "A" * 100_000,
        "Bearer " + "." * 100_000,
        "\xff",
    ):
        headers = {"Authorization": value}
        for method, path in (
            ("POST", "/oauth/token"),
            ("POST", "/oauth/introspect"),
            ("POST", "/oauth/revoke"),
            ("GET", "/oauth/userinfo"),
            ("POST", "/access/v1/evaluation"),
            ("POST", "/access/v1/evaluations"),
        ):
            options: dict[str, Any] = (
                {"json": {}} if "access" in path else {"data": {"token": "x"}} if method == "POST" else {}
            )
            answer = world.call(method, path, headers=headers, **options)
            assert answer.status_code in {400, 401}, (path, value[:40], answer.status_code)
    lower = world.call("POST", "/oauth/introspect", data={"token": "x"}, headers={"Authorization": f"bAsIc {basic}"})
    assert lower.json == {"active": False}


def test_hd_02_malformed_encodings_are_never_a_fault_of_ours(world: World) -> None:
    auth = ("expense", world.secret)
    bad = ("%", "%zz", "%ff", "%c0%af", "%00", "a%00b", "%ed%a0%80", "%u1234", "\xff", "+%2B")
    browser = world.browser()
    page = browser.follow(browser.go("/"))
    token = page.text.partition('name="csrf_token" value="')[2].partition('"')[0]
    tx = page.text.partition('name="tx" value="')[2].partition('"')[0]
    for value in bad:
        for path in (*PAGES, *HOT, "/portal/enter", "/saml/start/x", "/login/totp"):
            for address in (f"{path}?tx={value}&service={value}&client_id={value}&next={value}", f"{path}/{value}"):
                answer = browser.client.get(address, base_url="http://localhost:8000", headers={"Cookie": f"a={value}"})
                assert answer.status_code < 500, address
        form = f"csrf_token={token}&tx={tx}&login={value}&password={value}&a{value}=b"
        answer = browser.client.post("/login", data=form, headers=TEXT, base_url="http://localhost:8000")
        assert answer.status_code < 500, value
        for path in ("/oauth/token", "/oauth/introspect", "/oauth/revoke", "/saml/sso", "/cas/login"):
            data = f"grant_type=authorization_code&code={value}&token={value}&SAMLRequest={value}&service={value}"
            answer = world.call("POST", path, data=data, headers=TEXT, auth=auth)
            assert answer.status_code < 500, (path, value)
    question = {"subject": {"type": "user", "id": "a"}, "action": {"name": "x"}, "resource": {"type": "t", "id": "i"}}
    deep = "[" * 100 + "]" * 100
    for body in (
        b"\xff",
        b'{"subject"',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        json.dumps(question).replace('"i"', '"\\u0000"').encode(),
        json.dumps(question).replace('"i"', '"\\ud800"').encode(),
        json.dumps({**question, "context": {"x": 1}}).replace("1", deep).encode(),
        json.dumps(question).replace('"i"', "1e400").encode(),
        json.dumps(question).replace('"i"', "NaN").encode(),
    ):
        for path in ("/access/v1/evaluation", "/access/v1/evaluations"):
            answer = world.call("POST", path, data=body, content_type="application/json", auth=auth)
            assert answer.status_code == 400, (path, body[:60], answer.text)


@pytest.mark.case("HD-03", "HD-04", "BF-06", "PR-05")
def test_forwarding_headers_of_anybody_else_are_not_believed(world: World) -> None:
    forged = {
        "X-Forwarded-For": "8.8.8.8",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Port": "1",
        "X-Forwarded-Prefix": "//evil.example",
        "Forwarded": "host=evil.example;for=garbage",
        "X-Real-IP": "8.8.8.8",
        "X-Remote-User": "zhang",
        "X-SSL-Client-Cert": "x",
        "Host": "evil.example",
    }
    for path in (*PAGES, *HOT):
        answer = world.call("GET", path, headers=forged)
        assert "evil.example" not in answer.text, path
        assert "evil.example" not in str(answer.headers), path
        assert answer.status_code < 500


def test_hd_05_nothing_that_a_client_sent_splits_a_header(world: World) -> None:
    for value in ("a\r\nX-Evil: 1", "a\nb", "x" * 5_000, "张"):
        headers = {"X-Request-ID": value.encode().decode("latin-1")}
        try:
            answer = world.call("GET", "/healthz", headers=headers)
        except ValueError:  # the client itself refuses to send a line break
            continue
        assert answer.headers["X-Request-ID"] != headers["X-Request-ID"]
    assert world.call("GET", "/healthz", headers={"X-Request-ID": "a.b-1"}).headers["X-Request-ID"] == "a.b-1"
    for path in ("/portal/enter?next=", "/cas/logout?service=", "/cas/login?service="):
        answer = world.call("GET", f"{path}%0d%0aX-Evil:%201")
        assert "X-Evil" not in answer.headers


def test_hd_06_only_public_documents_are_open_to_scripts_of_others(world: World) -> None:
    opened = {"/oauth/jwks", "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"}
    for origin in ("https://evil.example", "null"):
        for path in (*PAGES, *HOT, "/oauth/token", "/admin"):
            answer = world.call("GET", path, headers={"Origin": origin})
            allowed = answer.headers.get("Access-Control-Allow-Origin")
            assert allowed == ("*" if path in opened else None), path
            assert "Access-Control-Allow-Credentials" not in answer.headers


def test_hd_09_every_answer_carries_the_security_headers(world: World) -> None:
    for path in (*PAGES, *HOT, "/static/tessera.css", f"/?{'x' * 9_000}"):
        answer = world.call("GET", path)
        answer.close()
        headers = answer.headers
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert headers["Referrer-Policy"] == "no-referrer", path
        assert headers["X-Frame-Options"] == "DENY", path
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin", path
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "Server" not in headers
        assert "Strict-Transport-Security" not in headers


def test_hd_09_over_tls_transport_security_is_stated() -> None:
    def plain(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x"]

    assert "max-age=31536000" in Client(edge_of(plain)).get("/").headers["Strict-Transport-Security"]


@pytest.mark.case("DO-01", "DO-03", "DO-04", "OA-28")
def test_what_is_too_large_is_refused_early(world: World) -> None:
    auth = ("expense", world.secret)
    large = b"x" * 1_100_000
    for path in ("/oauth/token", "/oauth/introspect", "/oauth/revoke"):
        answer = world.call("POST", path, data=b"a=" + b"x" * 70_000, headers=TEXT, auth=auth)
        assert answer.status_code in {400, 413}, path
    answer = world.call("POST", "/access/v1/evaluation", data=large, content_type="application/json", auth=auth)
    assert answer.status_code == 413
    for path in ("/saml/sso", "/cas/login", "/login", "/logout"):
        assert world.call("POST", path, data=b"a=" + large, headers=TEXT).status_code == 413
        many = "&".join(f"a{n}=1" for n in range(20_000))
        assert world.call("POST", path, data=many, headers=TEXT).status_code in {400, 413}
        parts = b"".join(b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' for _ in range(3_000))
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        assert world.call("POST", path, data=parts + b"--x--", headers=kind).status_code in {400, 413}
        missing = {"Content-Type": "multipart/form-data"}
        assert world.call("POST", path, data=parts, headers=missing).status_code in {303, 400, 403}
    assert world.call("POST", "/oauth/token", data=many, headers=TEXT, auth=auth).status_code in {400, 413}
    for path in (*PAGES, *HOT):
        assert world.call("GET", f"{path}?{'x' * 8_193}").status_code == 414
        assert world.call("GET", f"{path}?{'&'.join('a=1' for _ in range(1_500))}").status_code < 500
    for length in ("-1", "x", "99999999999999999999"):
        environ = {"CONTENT_LENGTH": length}
        for path in ("/oauth/token", "/saml/sso"):
            assert world.call("POST", path, environ_overrides=environ, auth=auth).status_code < 500


@pytest.mark.case("ER-03", "OA-21")
def test_error_pages_echo_nothing_that_was_sent(world: World) -> None:
    payload = "<script>alert(1)</script>"
    for path in (
        f"/cas/login?{urlencode({'service': payload})}",
        f"/cas/serviceValidate?{urlencode({'service': payload, 'ticket': payload})}",
        f"/saml/sso?{urlencode({'SAMLRequest': payload, 'RelayState': payload})}",
        f"/saml/start/{payload}",
        f"/login?{urlencode({'tx': payload})}",
        f"/oauth/authorize?{urlencode({'client_id': payload, 'state': payload})}",
        f"/{payload}",
    ):
        answer = world.call("GET", path)
        assert "<script>alert" not in answer.text, path
        assert "Traceback" not in answer.text


def test_ky_04_published_keys_have_no_private_part(world: World) -> None:
    keys = (world.call("GET", "/oauth/jwks").json or {})["keys"]
    assert {key["kty"] for key in keys} == {"RSA", "EC"}
    for key in keys:
        assert not {"d", "p", "q", "dp", "dq", "qi", "oth", "k"} & key.keys()
        assert key["use"] == "sig"
        assert key["alg"] in {"RS256", "ES256"}
    assert len({key["kid"] for key in keys}) == len(keys)


def test_ky_06_a_root_key_that_others_can_read_refuses_the_start(tmp_path: Path) -> None:
    settings = Settings(tessera_demo=True, tessera_var=tmp_path)
    root = load_root(settings)
    path = tmp_path / "root.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_root(settings) == root
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="readable by others"):
        load_root(settings)


@pytest.mark.case("KY-07", "KY-08")
def test_no_nonce_twice_and_no_value_in_another_place() -> None:
    key = bytes(32)
    wrapped = {wrap(key, b"seed", b"field|totp|1") for _ in range(20_000)}
    assert len({one[:12] for one in wrapped}) == len(wrapped) == 20_000
    one = next(iter(wrapped))
    assert unwrap(key, one, b"field|totp|1") == b"seed"
    for changed, place in ((one, b"field|totp|2"), (one, b"key|totp|1"), (one[:-1], b"field|totp|1"), (b"", b"")):
        with pytest.raises(Invalid):
            unwrap(key, changed, place)


@pytest.mark.case("KY-08", "KY-09")
def test_each_purpose_has_a_key_of_its_own_of_sufficient_size(world: World) -> None:
    published = (world.call("GET", "/oauth/jwks").json or {})["keys"]
    keyring: Keyring = world.things[Keyring]
    saml = keyring.certificate_keys("saml-sign")
    private = load_pem_private_key(saml[0].private_pem, None)
    assert isinstance(private, rsa.RSAPrivateKey)
    assert private.key_size >= 2_048
    certificate = x509.load_pem_x509_certificate(saml[0].certificate_pem.encode())
    assert certificate.public_key() == private.public_key()
    moduli = [key["n"] for key in published if key["kty"] == "RSA"]
    number = private.public_key().public_numbers().n
    own = base64.urlsafe_b64encode(number.to_bytes(256, "big")).rstrip(b"=").decode()
    assert own not in moduli
    assert keyring.derive("a", "x") != keyring.derive("b", "x")


def test_df_01_a_fresh_installation_has_no_account_and_no_open_door(tmp_path: Path, world: World) -> None:
    with world.unit() as unit:
        assert unit.db.query(User).count() == 0
    root = tmp_path / "outside.key"
    root.write_bytes(secrets.token_bytes(32))
    root.chmod(0o600)
    app = create_app(
        Settings(tessera_var=tmp_path / "own", public_url="https://id.example", root_key_file=root, log_level="ERROR")
    )
    client = Client(app.extensions["tessera_edge"], use_cookies=False)
    assert client.get("/oauth/jwks").status_code == 503
    assert client.post("/oauth/token", data={}).status_code in {401, 503}


def test_df_02_unsafe_settings_refuse_the_start_and_say_why(tmp_path: Path) -> None:
    key = tmp_path / "key"
    safe = {"PUBLIC_URL": "https://id.example", "ROOT_KEY_FILE": str(key)}
    for wrong, word in (
        ({"PUBLIC_URL": "http://id.example"}, "https"),
        ({"ROOT_KEY_FILE": ""}, "ROOT_KEY_FILE"),
        ({"TESSERA_DEMO": "1"}, "loopback"),
        ({"PUBLIC_URL": "https://user@id.example"}, "PUBLIC_URL"),
        ({"TRUSTED_PROXIES": "everybody"}, "TRUSTED_PROXIES"),
        ({"ACCESS_TOKEN_TTL_S": "3600"}, "ACCESS_TOKEN_TTL_S"),
        ({"CODE_TTL_S": "600"}, "CODE_TTL_S"),
        ({"AUDIT_RETENTION_DAYS": "1"}, "AUDIT_RETENTION_DAYS"),
        ({"ORG_TIME_ZONE": "Mars/Base"}, "ORG_TIME_ZONE"),
    ):
        with pytest.raises(SettingsError, match=word):
            Settings.from_env({**safe, **wrong})
    with pytest.raises(SettingsError, match="does not exist"):
        load_root(Settings.from_env(safe))
    key.write_bytes(b"short")
    key.chmod(0o600)
    with pytest.raises(SettingsError, match="32 bytes"):
        load_root(Settings.from_env(safe))
