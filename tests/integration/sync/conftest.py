"""One company in each kind of source, beside a Tessera that reads it.

A source does not care which database holds what it gave, so each kind runs on one of the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.sync.company import Company
from tests.integration.sync.sources import LdifSource, SambaSource, SlapdSource, Source
from tests.integration.sync.tables import TableSource
from tests.servers.pki import Authority
from tests.servers.slapd import Slapd, loopback
from tests.servers.templates import Address, Templates


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Source]:
    """The kind of source that the test is run with; slapd in clear unless it says otherwise."""
    kind = getattr(request, "param", "slapd")
    if kind == "ldif":
        yield LdifSource(tmp_path)
        return
    if kind in {"csv", "xlsx"}:
        yield TableSource(tmp_path, kind)
        return
    if kind == "samba":
        domain = SambaSource(request.getfixturevalue("samba"))
        yield domain
        domain.clear()
        return
    authority: Authority = request.getfixturevalue("authority")
    address = loopback()
    with Slapd(tmp_path / "slapd", authority.server(address), address=address) as slapd:
        tls = {"slapd-starttls": "starttls", "slapd-ldaps": "ldaps"}.get(kind, "none")
        yield SlapdSource(slapd, tls, authority.ca_file if tls != "none" else None)


@pytest.fixture
def company(database_url: Address, tmp_path: Path, templates: Templates, source: Source) -> Iterator[Company]:
    """Tessera beside an empty source; the world's groups come from the source."""
    world = templates.world(database_url, tmp_path, groups=())
    yield Company(world, source)
    world.close()


@pytest.fixture
def staffed(company: Company) -> Company:
    """Eight people of whom four are staff, in the books already."""
    company.fill(staff=4)
    return company
