"""SAML responses and CAS validations, in process: what a door costs beside the server in front of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from lxml import etree
from sqlalchemy import select

from benchmarks.figure import figure, rate
from identity.apps.models import Application
from identity.cas.models import ServiceTicket
from identity.core.secrets import digest
from identity.keys.keyring import Keyring
from identity.login.models import LoginSession
from identity.people.models import User
from identity.saml import names, response
from identity.saml.signature import sign
from tests.world import World

SERVICE = "https://app.example/cas"
RESPONSES, TICKETS, THREADS = 200, 500, 16


def saml_response() -> Iterator[dict[str, Any]]:
    """Signed responses a second on one core; the baseline is the signature of an empty assertion alone."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(f"sqlite:///{folder}/bench.db", Path(folder))
        world.call("GET", "/readyz")
        key = world.things[Keyring].certificate_keys("saml-sign")[0]
        world.close()
    now = datetime.now(UTC)
    statement = response.Statement(
        issuer="https://id.example/saml/metadata",
        audience="https://sp.example/metadata",
        acs_url="https://sp.example/acs",
        in_response_to="_request",
        name_id="_name",
        name_id_format=names.PERSISTENT,
        session_index="index",
        session_expires_at=now + timedelta(hours=8),
        auth_time=now,
        context_class=names.PASSWORD_CLASS,
        attributes={"name": "张三", "email": "zhangsan@example.com", "roles": ["申请人", "部门审批人"]},
        aliases={},
        attribute_format="uri",
        sign_response=False,
        encrypt_for=None,
    )

    def build() -> int:
        for _ in range(RESPONSES):
            response.build(statement, key, now)
        return RESPONSES

    def bare() -> int:
        for _ in range(RESPONSES):
            element = etree.Element(f"{{{names.SAML}}}Assertion", ID="_a")
            etree.SubElement(element, f"{{{names.SAML}}}Issuer").text = statement.issuer
            sign(element, key)
        return RESPONSES

    base, _ = rate(bare)
    value, n = rate(build)
    yield figure("saml.response", value, "responses/s", n, base)


def cas_validate() -> Iterator[dict[str, Any]]:
    """Durable ticket validations a second, through the hot table, from 16 threads, on SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(f"sqlite:///{folder}/bench.db", Path(folder))
        world.person("zhang", "staff")
        world.browser().sign_in("zhang")
        made = 0

        def tickets() -> list[str]:
            nonlocal made
            values = [f"ST-{made + n}" for n in range(TICKETS)]
            made += TICKETS
            with world.unit() as unit:
                user = unit.db.execute(select(User)).scalar_one()
                common = {
                    "service": SERVICE,
                    "application_id": unit.db.execute(select(Application.id).limit(1)).scalar_one(),
                    "user_id": user.id,
                    "session_id": unit.db.execute(select(LoginSession.id).limit(1)).scalar_one(),
                    "fresh_credentials": False,
                    "detail": {"user": "zhang", "attributes": {}, "person": str(user.person_id)},
                    "expires_at": unit.now + timedelta(hours=1),
                }
                unit.db.add_all([ServiceTicket(ticket_hash=digest(one), **common) for one in values])
            return values

        prepared = [tickets() for _ in range(5)]

        def one(ticket: str) -> None:
            answer = world.call("GET", f"/cas/p3/serviceValidate?{urlencode({'service': SERVICE, 'ticket': ticket})}")
            if "authenticationSuccess" not in answer.text:
                raise RuntimeError(answer.text)

        with ThreadPoolExecutor(THREADS) as pool:

            def act() -> int:
                batch = prepared.pop()
                list(pool.map(one, batch))
                return len(batch)

            value, n = rate(act)
        world.close()
    yield figure("cas.validate", value, "validations/s", n)


FIGURES = {"saml.response": saml_response, "cas.validate": cas_validate}
