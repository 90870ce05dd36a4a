"""The connection is cut exactly at the commit: what the client cannot know is settled by what is stored, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import pytest
from sqlalchemy import select
from sqlalchemy.engine import make_url

from identity.audit.models import AuditRecord
from tests.faults.checker import check, opened
from tests.faults.cutter import CommitCutter, Moment
from tests.faults.load import LEAVES, Answer, Client
from tests.faults.site import Site, wait_for
from tests.servers.cluster import Cluster
from tests.servers.templates import Templates

# A busy machine may take its time; what is never true fails sooner, by `wait_for`.
pytestmark = pytest.mark.timeout(600)

# Whether its commit is one INSERT by itself (the recorder's plain batches) or of a transaction.
ALONE = {"decide": True, "token": True, "refuse": True, "act": False, "redeem": False, "role": False}


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, str, CommitCutter]]:
    """An installation that reaches its database by way of the proxy, and the address without it."""
    folder = tmp_path_factory.mktemp("cut")
    with Cluster() as server, CommitCutter(("127.0.0.1", server.port)) as proxy:
        direct = Templates(tmp_path_factory.mktemp("templates")).copy(server, folder)
        through = make_url(direct).set(host=proxy.address, port=proxy.port)
        site = Site(through.render_as_string(hide_password=False), folder)
        site.prepare(direct)
        with site.serving():
            yield site, direct, proxy


@contextmanager
def client(site: Site, number: int) -> Iterator[Client]:
    made = Client(site, number)
    try:
        yield made
    finally:
        made.close()


def done(one: Client, kind: str) -> Answer:
    """The first answer of this kind that says that it was done; a busy machine may refuse before."""
    while not (answer := one.do(kind)).ok:
        assert answer.status in {503, None}, answer
    return answer


def recorded(database_url: str, one: str) -> Counter[str]:
    """The kinds that this request left."""
    with opened(database_url) as database, database.read() as connection:
        bodies = connection.execute(select(AuditRecord.body)).scalars().all()
    found = [orjson.loads(bytes(body)) for body in bodies]
    return Counter(record["kind"] for record in found if record["request_id"] == one)


@pytest.mark.case("RF-03")
@pytest.mark.parametrize("kind", ALONE)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_commit_that_nobody_heard_of_is_there_once_or_not_at_all(
    cut: tuple[Site, str, CommitCutter], kind: str, moment: Moment
) -> None:
    site, direct, proxy = cut
    number = 10 * list(ALONE).index(kind) + (moment == "after")
    with client(site, number) as one:
        wait_for(lambda: one.do(kind).ok, "all to be well")
        code = done(one, "code").proof if kind == "redeem" else ""
        proxy.arm(moment, alone=ALONE[kind])
        told = one.redeem(f"cut-{number}", code) if code else one.do(kind)
        assert proxy.cut.is_set()
        assert (told.status, told.ok, told.fault) == (503, False, "")
        assert recorded(direct, told.id)[LEAVES[kind]] == (1 if moment == "after" else 0)
        if code:
            again = one.redeem(f"again-{number}", code)
            while again.status == 503:
                again = one.redeem(f"again-{number}", code)
            assert again.ok is (moment == "before"), "a code is used or unused, never both"
        wait_for(lambda: one.do(kind).ok, "all to be well again")
        answers = [answer for answer in one.answers if answer.fault == ""]
    verdict = check(site, answers, direct)
    assert verdict.clean, verdict


@pytest.mark.case("RF-03")
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_buffered_decision_is_written_once_whatever_happens_to_its_commit(
    cut: tuple[Site, str, CommitCutter], moment: Moment
) -> None:
    site, direct, proxy = cut
    with client(site, 90 + (moment == "after")) as one:
        proxy.arm(moment, alone=False)
        told = done(one, "buffered")
        wait_for(proxy.cut.is_set, "the cut")
        wait_for(lambda: recorded(direct, told.id)[LEAVES["buffered"]], "the record")
        # The tries after the first one are over when a later decision of the same process is there; both have one.
        for more in [done(one, "buffered") for _ in range(8)]:
            wait_for(lambda more=more: recorded(direct, more.id)[LEAVES["buffered"]], "the next records")
        assert recorded(direct, told.id)[LEAVES["buffered"]] == 1
