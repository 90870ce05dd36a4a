"""Keys: their rotation over time, what is shown of them, and tokens that they did not sign."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import stat
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from joserfc import jwk, jwt
from sqlalchemy import select

from identity.audit.models import AuditRecord
from identity.core.errors import Invalid
from identity.core.settings import Settings, SettingsError
from identity.keys import rotate
from identity.keys.models import KeyRow
from identity.keys.wrap import load_root, unwrap, wrap
from tests.security.town import BASE, DESK_API, Town, claims_of

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def kids(town: Town) -> list[str]:
    return [one["kid"] for one in (town.call("GET", "/oauth/jwks").json or {})["keys"]]


def kid_of(token: str) -> str:
    part = token.partition(".")[0]
    return str(orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["kid"])


def step(town: Town, **options: bool) -> list[str]:
    with town.unit() as unit:
        return rotate.rotate(unit, town.app.extensions["tessera_root"], **options)


def state_of(town: Town, kid: str) -> str:
    with town.database.read() as connection:
        return connection.execute(select(KeyRow.state).where(KeyRow.kid == kid)).scalar_one()


def issue(town: Town) -> str:
    return str((town.as_client("desk-service", grant_type="client_credentials").json or {})["access_token"])


@pytest.mark.case("KY-01", "KY-02", "JW-15")
def test_a_key_is_shown_before_it_signs_and_kept_while_its_tokens_live(town: Town) -> None:
    first = kid_of(issue(town))
    step(town)
    following = next(one for one in kids(town) if state_of(town, one) == "next" and one in _rsa(town))
    assert kid_of(issue(town)) == first
    step(town)  # too early
    assert kid_of(issue(town)) == first
    with town.later(hours=23):
        step(town)
        assert kid_of(issue(town)) == first
    with town.later(hours=25):
        old = issue(town)
        assert any(following in line for line in step(town))
        assert kid_of(issue(town)) == following
        assert {first, following} <= set(kids(town))
        assert town.introspect(old)["active"] is True
    with town.later(days=9):
        step(town, due_only=True)
        assert first not in kids(town)
        assert kid_of(issue(town)) == following  # 90 days are not over
    with town.later(days=9):
        stolen = issue(town)
        with town.unit() as unit:
            rotate.revoke(unit, town.app.extensions["tessera_root"], following)
        assert town.introspect(stolen) == {"active": False}
        assert following not in kids(town)
        fresh = issue(town)
        assert kid_of(fresh) != following
        assert town.introspect(fresh)["active"] is True
    with town.later(days=100):
        before = kid_of(issue(town))
        step(town, due_only=True)
        assert kid_of(issue(town)) != before
    assert town.records("keys.key.rotated")


def test_the_command_line_rotates_and_revokes(town: Town) -> None:
    runner = town.app.test_cli_runner()
    answer = runner.invoke(args=["identity", "rotate-keys"])
    assert (answer.exit_code, "RS256" in answer.output) == (0, True)
    wrong = runner.invoke(args=["identity", "rotate-keys", "--revoke", "unknown"])
    assert wrong.exit_code == 1
    victim = next(one for one in kids(town) if state_of(town, one) == "next")
    assert runner.invoke(args=["identity", "rotate-keys", "--revoke", victim]).exit_code == 0
    assert victim not in kids(town)


def _rsa(town: Town) -> list[str]:
    return [one["kid"] for one in (town.call("GET", "/oauth/jwks").json or {})["keys"] if one["kty"] == "RSA"]


@pytest.mark.case("KY-04", "KY-09", "HD-06")
def test_the_key_set_shows_public_halves_of_good_keys_to_everybody(town: Town) -> None:
    answer = town.call("GET", "/oauth/jwks", headers={"Origin": "https://anybody.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    keys = (answer.json or {})["keys"]
    assert len(keys) == len({one["kid"] for one in keys})
    for one in keys:
        assert not {"d", "p", "q", "dp", "dq", "qi", "k", "oth"} & one.keys()
        assert (one["use"], one["kty"] in {"RSA", "EC"}, bool(one["alg"])) == ("sig", True, True)
        assert one["kty"] != "RSA" or len(base64.urlsafe_b64decode(one["n"] + "==")) >= 256
        assert one["kty"] != "EC" or one["crv"] == "P-256"
    for path in ("/oauth/token", "/oauth/userinfo", "/oauth/introspect"):
        other = town.call("POST", path, headers={"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in other.headers


@pytest.mark.case("KY-06", "DF-02")
def test_a_root_key_that_others_can_read_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    key = secrets.token_bytes(32)
    path.write_bytes(key)
    path.chmod(0o644)
    given = {"public_url": "https://id.example", "root_key_file": path, "tessera_var": tmp_path}
    settings = Settings.model_validate(given)
    with pytest.raises(SettingsError, match="readable by others"):
        load_root(settings)
    path.chmod(0o600)
    assert load_root(settings) == key
    path.write_bytes(b"short")
    with pytest.raises(SettingsError, match="32 bytes"):
        load_root(settings)
    path.unlink()
    with pytest.raises(SettingsError, match="does not exist"):
        load_root(settings)
    made = Settings.model_validate({"tessera_demo": True, "tessera_var": tmp_path / "demo"})
    load_root(made)
    assert stat.S_IMODE((tmp_path / "demo" / "root.key").stat().st_mode) == 0o600


@pytest.mark.case("KY-07", "KY-08")
def test_no_ciphertext_comes_twice_and_none_can_be_moved() -> None:
    key = b"k" * 32
    made = {wrap(key, b"the same", b"here") for _ in range(20_000)}
    assert len(made) == 20_000
    one = made.pop()
    assert unwrap(key, one, b"here") == b"the same"
    for wrong_key, where, changed in (
        (key, b"there", one),
        (b"j" * 32, b"here", one),
        (key, b"here", one[:-1] + b"\0"),
    ):
        if changed == one and (wrong_key, where) == (key, b"here"):
            continue
        with pytest.raises(Invalid):
            unwrap(wrong_key, changed, where)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def part(value: Any) -> str:
    return b64(json.dumps(value).encode())


def forgeries(town: Town, token: str) -> dict[str, str]:
    """Tokens that an attacker could make of a good one and the public keys."""
    head, body, signature = token.split(".")
    header = orjson.loads(base64.urlsafe_b64decode(head + "=="))
    claims = claims_of(token)
    public = next(one for one in (town.call("GET", "/oauth/jwks").json or {})["keys"] if one["kid"] == header["kid"])
    pem = jwk.RSAKey.import_key(public).as_pem(private=False)
    assert load_pem_public_key(pem)
    own = jwk.RSAKey.generate_key(2048)

    def mac(key: bytes) -> str:
        message = f"{part({**header, 'alg': 'HS256'})}.{body}"
        return f"{message}.{b64(hmac.digest(key, message.encode(), 'sha256'))}"

    def mine(**changed: Any) -> str:
        return jwt.encode({**header, **changed}, claims, own, algorithms=["RS256", "PS256"])

    other = next(one for one in kids(town) if one != header["kid"])
    # 256 bytes leave four bits of the last character unused.
    variant = signature[:-1] + ALPHABET[ALPHABET.index(signature[-1]) ^ 1]
    return {
        "none": f"{part({**header, 'alg': 'none'})}.{body}.",
        "nOnE": f"{part({**header, 'alg': 'nOnE'})}.{body}.{signature}",
        "no signature": f"{head}.{body}.",
        "two parts": f"{head}.{body}",
        "four parts": f"{token}.x",
        "public key as secret": mac(pem),
        "empty secret": mac(b""),
        "jwk text as secret": mac(orjson.dumps(public)),
        "own key": mine(),
        "own key in the header": mine(jwk=own.as_dict(private=False)),
        "own certificate": mine(x5c=["MIIB"]),
        "own key by address": mine(jku="http://127.0.0.1:1/jwks", x5u="http://127.0.0.1:1/"),
        "PS256": f"{part({**header, 'alg': 'PS256'})}.{body}.{signature}",
        "ES256 of zeros": f"{part({**header, 'alg': 'ES256'})}.{body}.{b64(bytes(64))}",
        "crit": f"{part({**header, 'crit': ['x'], 'x': 1})}.{body}.{signature}",
        "crit empty": f"{part({**header, 'crit': []})}.{body}.{signature}",
        "b64": f"{part({**header, 'b64': False, 'crit': ['b64']})}.{body}.{signature}",
        "encrypted": f"{part({'alg': 'dir', 'enc': 'A256GCM'})}..{b64(b'x' * 12)}.{body}.{signature}",
        "zip": f"{part({**header, 'zip': 'DEF'})}.{body}.{signature}",
        "json": json.dumps({"payload": body, "signatures": [{"protected": head, "signature": signature}]}),
        "kid path": f"{part({**header, 'kid': '../../etc/passwd'})}.{body}.{signature}",
        "kid sql": f"{part({**header, 'kid': chr(39) + ' OR 1=1 --'})}.{body}.{signature}",
        "kid nul": f"{part({**header, 'kid': chr(0)})}.{body}.{signature}",
        "kid number": f"{part({**header, 'kid': 1})}.{body}.{signature}",
        "kid list": f"{part({**header, 'kid': [header['kid']]})}.{body}.{signature}",
        "kid of another key": f"{part({**header, 'kid': other})}.{body}.{signature}",
        "header list": f"{part([header])}.{body}.{signature}",
        "dots": "." * 60_000,
        "long": f"{head}.{'A' * 50_000}.{signature}",
        "padded": f"{token}==",
        "other spelling of the signature": f"{head}.{body}.{variant}",
        "newline": f"{head}.{body}.{signature}\n",
        "other claims": f"{head}.{part({**claims, 'scope': 'admin'})}.{signature}",
        "not ascii": f"{head}.{body}.é",
    }


@pytest.mark.case("JW-01", "JW-02", "JW-03", "JW-04", "JW-05", "JW-06", "JW-08", "JW-09", "JW-10", "JW-11", "JW-12")
@pytest.mark.case("JW-13", "TK-04", "KY-08")
def test_nothing_that_an_attacker_can_make_of_a_token_counts(town: Town) -> None:
    good = issue(town)
    assert town.introspect(good)["active"] is True
    for name, forged in forgeries(town, good).items():
        if forged != good:
            assert town.introspect(forged) == {"active": False}, name
        answer = town.call("GET", "/oauth/userinfo", headers={"Authorization": f"Bearer {forged.strip()[:9_000]}"})
        assert answer.status_code in {400, 401}, name
    with town.database.read() as connection:
        assert connection.execute(select(AuditRecord.id).limit(1)).first()


@pytest.mark.case("JW-14", "JW-15", "OI-08", "LO-08")
def test_a_token_of_one_kind_is_not_one_of_another(town: Town) -> None:
    browser, _ = town.signed_in()
    tokens = town.tokens(browser, resource=DESK_API, scope="openid desk.read")
    assert town.userinfo(tokens["id_token"]).status_code == 401
    assert town.userinfo(tokens["access_token"]).status_code == 401  # another audience
    assert town.introspect(tokens["id_token"]) == {"active": False}
    for wrong in (tokens["access_token"], tokens["refresh_token"]):
        answer = town.ask(browser, id_token_hint=wrong)
        assert "error=invalid_request" in answer.headers["Location"]
        goodbye = town.call("GET", f"/oauth/logout?id_token_hint={wrong}")
        assert goodbye.headers["Location"] == "/logout"
    header = orjson.loads(base64.urlsafe_b64decode(tokens["access_token"].partition(".")[0] + "=="))
    assert header["typ"] == "at+jwt"
    assert claims_of(tokens["access_token"])["iss"] == BASE
