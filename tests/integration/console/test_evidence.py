"""An auditor's evidence pack: asked for from a search, made when a head covers it, believed without believing us."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from identity.audit import packs
from identity.audit.index import index_new
from identity.audit.models_evidence import EvidencePart
from identity.audit.retention import redact
from identity.core.record import Actor, Record
from identity.core.unit import Units
from identity.keys.keyring import Keyring
from identity.keys.seal import EvidenceKey, evidence_key, published_keys
from tests.audit.proof import Proof
from tests.audit.test_proof_doors import cut
from tests.audit.test_restored import SAID, state
from tests.integration.console.conftest import Console, Visitor

WHY = {"reason": "yearly audit", "reference": "审计-2026-07"}
PAGE = "/admin/audit/evidence"


def signer(console: Console) -> EvidenceKey:
    return evidence_key(console.settings, console.things[Keyring])


def work(console: Console, sign: Callable[[], EvidenceKey] | None = None, **later: float) -> int:
    """What the worker does in its turn."""
    keys = packs.Keys(sign or (lambda: signer(console)), lambda: published_keys(console.settings))
    index_new(console.database, datetime.now(UTC) + packs.SETTLED)
    return packs.make_waiting(console.things[Units], console.database, keys, datetime.now(UTC) + timedelta(**later))


def happen(console: Console, name: str, count: int = 3) -> list[Any]:
    """That many records about objects of this name, which hold a personal value; their ids."""
    made = []
    with console.unit() as unit:
        for n in range(count):
            one = Record(
                kind="people.user.created", result="success", resource_id=f"{name}-{n}", personal={"mail": "张三@x"}
            )
            unit.record(one)
            made.append(one.id)
    return made


def ready(console: Console, auditor: Visitor, name: str, **form: str) -> str:
    """A pack over the first object of this name; the address of its file."""
    assert auditor.post(PAGE, find_object=f"{name}-0", **WHY, **form).status_code == 303
    Proof(console).seal()
    assert work(console) == 1
    return files(auditor)[0]


def files(auditor: Visitor) -> list[str]:
    """The addresses of the packs that can be had, newest first."""
    return re.findall(rf"{PAGE}/[0-9a-f-]{{36}}/file", auditor.get(PAGE).text)


def fetched(auditor: Visitor, address: str) -> tuple[int, bytes]:
    answer = auditor.get(address)
    found = answer.status_code, answer.data
    answer.close()
    return found


def verified(console: Console, auditor: Visitor, pack: bytes, folder: Path) -> tuple[int, str]:
    """What the verifier of the console's page says of the pack, under the sealer's key."""
    script, archive = folder / "verify.py", folder / "pack.zip"
    script.write_bytes(fetched(auditor, f"{PAGE}/verifier")[1])
    archive.write_bytes(pack)
    keys = ["--key", str(published_keys(console.settings)[0]), "--records-key", str(signer(console).key)]
    heads = ["--heads", str(Proof(console).outside.file.path)]
    done = subprocess.run(
        [sys.executable, "-I", script, archive, *keys, *heads], capture_output=True, text=True, check=False
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def changed(pack: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    """The pack with one file changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(pack)) as old, zipfile.ZipFile(out, "w") as new:
        for one in old.namelist():
            data = old.read(one)
            new.writestr(one, change(data) if one == name else data)
    return out.getvalue()


def test_a_search_becomes_a_pack_that_an_outsider_verifies(console: Console, tmp_path: Path) -> None:
    auditor = console.visitor("auditor")
    happen(console, "handed")
    assert auditor.post(PAGE, find_q="handed", personal="yes").status_code == 400, "without a reason"
    assert auditor.post(PAGE, find_object="handed-1", personal="yes", **WHY).status_code == 303
    page = auditor.get(PAGE).text
    assert "Waits for an anchored head." in page
    assert "object=handed-1" in page
    # As long as no head covers it, it waits, and says so.
    assert work(console) == 0
    Proof(console).seal()
    happen(console, "handed")  # after the question: none of its
    assert work(console) == 1
    [address] = files(auditor)
    answer = auditor.get(address)
    pack = answer.data
    answer.close()
    assert answer.content_type == "application/zip"
    digest = hashlib.sha256(pack).hexdigest()
    assert answer.headers["Digest"] == f"sha-256={digest}"
    code, said = verified(console, auditor, pack, tmp_path)
    assert code == 0, said
    assert "1 records hold" in said
    for line in ("by auditor", "reason yearly audit", "reference 审计-2026-07"):
        assert line in said
    told = [one for one in console.records() if one["kind"].startswith("audit.evidence.")]
    assert [one["kind"].rpartition(".")[2] for one in told] == ["asked", "made", "read"]
    assert {(one["why"], one["reference"]) for one in told} == {tuple(WHY.values())}
    assert [one["data"].get("sha256") for one in told] == [None, digest, digest]
    assert told[1]["data"]["signed_by"] == str(signer(console).key)

    spoilt = changed(pack, "records.jsonl", lambda data: data.replace(b"handed-1", b"handed-2"))
    code, said = verified(console, auditor, spoilt, tmp_path)
    assert (code, said.startswith("BAD: records.jsonl is not the file that the manifest names")) == (1, True)
    spoilt = changed(pack, "head.txt", lambda data: data.replace(b"\nat 2", b"\nat 3"))
    assert verified(console, auditor, spoilt, tmp_path)[0] == 1


def test_a_pack_without_personal_values_has_none(console: Console, tmp_path: Path) -> None:
    auditor = console.visitor("auditor")
    happen(console, "bare")
    pack = fetched(auditor, ready(console, auditor, "bare"))[1]
    with zipfile.ZipFile(io.BytesIO(pack)) as archive:
        assert "personal.jsonl" not in archive.namelist()
    assert verified(console, auditor, pack, tmp_path)[0] == 0


def test_a_pack_is_kept_for_a_week_and_goes_when_a_value_is_erased(console: Console) -> None:
    auditor = console.visitor("auditor")
    [record, *_] = happen(console, "erased")
    kept = ready(console, auditor, "erased")
    held = ready(console, auditor, "erased", personal="yes")
    # One is being made while the value is erased: it is made anew, without it.
    assert auditor.post(PAGE, find_object="erased-0", personal="yes", **WHY).status_code == 303
    Proof(console).seal()
    once = [record]

    def while_it_is_erased() -> EvidenceKey:
        while once:
            with console.units.open(Actor.system("cli:redact"), reason="asked for") as unit:
                redact(unit, once.pop(), ["mail"])
        return signer(console)

    assert work(console, while_it_is_erased) == 0
    assert work(console) == 1
    assert fetched(auditor, held)[0] == 404
    assert "A personal value was erased" in auditor.get(PAGE).text
    newest, *_ = files(auditor)
    with zipfile.ZipFile(io.BytesIO(fetched(auditor, newest)[1])) as archive:
        assert archive.read("personal.jsonl") == b""
    assert fetched(auditor, kept)[0] == 200
    packs.forget_packs(console.things[Units], datetime.now(UTC) + timedelta(days=6))
    assert fetched(auditor, kept)[0] == 200
    packs.forget_packs(console.things[Units], datetime.now(UTC) + timedelta(days=8))
    assert fetched(auditor, kept)[0] == 404
    with console.database.read() as connection:
        assert connection.execute(EvidencePart.__table__.select()).first() is None


def test_what_cannot_be_made_says_why(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    auditor = console.visitor("auditor")
    happen(console, "much", 4)
    monkeypatch.setattr(packs, "RECORDS_MAX", 3)
    assert auditor.post(PAGE, find_kind="people.user.created", **WHY).status_code == 303
    assert auditor.post(PAGE, find_object="much-nothing", **WHY).status_code == 303
    Proof(console).seal()
    assert work(console) == 2
    happen(console, "unsealed", 1)
    assert auditor.post(PAGE, find_object="unsealed-0", **WHY).status_code == 303
    assert work(console, minutes=59) == 0
    assert work(console, minutes=61) == 1
    page = auditor.get(PAGE).text
    for reason in ("It finds more than one pack holds", "Nothing was found.", "Is the sealer running?"):
        assert reason in page
    failed = [one for one in console.records() if one["kind"] == "audit.evidence.made" and one["result"] == "failed"]
    assert {one["reason"] for one in failed} == {"evidence_size", "evidence_empty", "evidence_unsealed"}


def test_only_so_many_wait(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "WAITING_MAX", 0)
    assert console.visitor("auditor").post(PAGE, find_object="x", **WHY).status_code == 409


def test_the_page_of_the_proof_tells_of_a_restore(console: Console) -> None:
    auditor, proof = console.visitor("auditor"), Proof(console)
    proof.seal()
    assert "Restored from a backup" not in auditor.get("/admin/audit/proof").text
    cut(proof, 2)
    now = datetime.now(UTC)
    made = state(proof, now, replace(SAID, backup_at=now))
    page = auditor.get("/admin/audit/proof").text
    assert f"2 records lost, from number {made.kept} on" in page
    assert "reason disk failure of node 2" in page
