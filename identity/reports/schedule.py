"""Make the reports that are due and mail them."""

from __future__ import annotations

from datetime import datetime, tzinfo

from sqlalchemy import select

from identity.access.decide import Access
from identity.core.ending import ending
from identity.core.errors import TesseraError
from identity.core.i18n import gettext, speaking
from identity.core.record import Actor
from identity.core.unit import Unit, Units
from identity.events.outbox import send
from identity.reports.catalogue import REPORTS
from identity.reports.models import ReportRun, ReportSchedule
from identity.reports.service import due, make

ACTOR = Actor.system("worker:reports")
# A larger file stays in the console: mail servers refuse it.
ATTACHED_MAX = 5_242_880


def make_due(units: Units, access: Access, now: datetime, zone: tzinfo) -> int:
    """Every schedule whose time has come, each in a Unit of its own; the number made. A failure is kept to be seen."""
    with units.open(ACTOR, write=False, now=now) as unit:
        rows = unit.db.execute(select(ReportSchedule).where(ReportSchedule.enabled)).scalars()
        waiting = [row.id for row in rows if due(row, now, zone)]
    made, ended = 0, ending()
    for schedule_id in waiting:
        if ended():
            break
        try:
            with units.open(ACTOR, now=now, reason="schedule") as unit:
                row = unit.db.get_one(ReportSchedule, schedule_id)
                with speaking(row.language):
                    run = make(unit, access.snapshot(), row.report, row.days, zone)
                    _mail(unit, row, run, zone)
                row.last_made_at, row.last_error = now, None
            made += 1
        except TesseraError as error:
            with units.open(ACTOR, now=now) as unit:
                unit.db.get_one(ReportSchedule, schedule_id).last_error = str(error)[:500]
    return made


def _mail(unit: Unit, schedule: ReportSchedule, run: ReportRun, zone: tzinfo) -> None:
    report = REPORTS[run.report]
    facts = [
        gettext(report.question),
        "",
        f"{gettext('Made at')}: {run.made_at.astimezone(zone).isoformat(sep=' ', timespec='seconds')}",
        f"{gettext('Rows')}: {run.row_count}",
        f"{gettext('Facts revision')}: {run.facts_revision}",
        f"{gettext('Signed records')}: {run.tree_size} {run.tree_root.hex() if run.tree_root else ''}".rstrip(),
        f"SHA-256: {run.sha256}",
    ]
    payload: dict[str, object] = {"subject": f"Tessera: {gettext(report.title)}", "text": "\n".join(facts) + "\n"}
    if len(run.content) <= ATTACHED_MAX:
        payload["file"] = [f"{run.report}-{run.made_at:%Y%m%d}.csv", run.content]
    for address in schedule.recipients:
        send(unit, "report", f"mailto:{address}", payload, ordering_key=f"mail:{address}")
