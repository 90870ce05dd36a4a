"""Heads leave the machine, to real receivers of each kind; and the alarm when they do not."""

from __future__ import annotations

import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError
from sqlalchemy import select

from identity.audit.alarm import gap_state, watch_gap
from identity.audit.anchors import FileAnchor, LeafLog
from identity.audit.index import index_new
from identity.audit.kinds import Kind
from identity.audit.models import AuditAnchor, AuditFind
from identity.audit.note import Head, NoteKey, open_note, split_notes
from identity.audit.outside import outside
from identity.audit.seal import Sealer
from identity.core.errors import Invalid, Unavailable
from identity.core.record import Record
from identity.events.mail import send_mail
from tests.audit.proof import Ledger, Proof

NOW = datetime.now(UTC)


class Receiver(BaseHTTPRequestHandler):
    """Keeps what is POSTed; answers as its server says."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, answer = self.server.answer(body)  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def http_server(answer: Any) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    server.answer = answer  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/heads"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Smtp(socketserver.StreamRequestHandler):
    """As much of RFC 5321 as one message needs."""

    def handle(self) -> None:
        self.say("220 here")
        for line in self.rfile:
            verb = line[:4].upper()
            if verb == b"DATA":
                self.say("354 go on")
                self.take()
            elif verb == b"RCPT" and b"full@" in line:
                self.say("452 full")
            else:
                self.say("221 bye" if verb == b"QUIT" else "250 ok")

    def take(self) -> None:
        data = b""
        for line in self.rfile:
            if line == b".\r\n":
                break
            data += line
        self.server.mails.append(data)  # type: ignore[attr-defined]
        self.say("250 taken")

    def say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")


class SmtpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    mails: ClassVar[list[bytes]] = []


@pytest.fixture
def smtp() -> Iterator[tuple[str, list[bytes]]]:
    server = SmtpServer(("127.0.0.1", 0), Smtp)
    server.mails = mails = []  # type: ignore[misc]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"smtp://127.0.0.1:{server.server_address[1]}", mails
    server.shutdown()
    thread.join()
    server.server_close()


def with_settings(proof: Proof, **values: Any) -> Sealer:
    settings = proof.world.settings.model_copy(update=values)

    def mail(subject: str, text: str) -> None:
        send_mail(str(settings.smtp_url), settings.mail_from, str(settings.audit_anchor_mail), subject, text)

    return Sealer(proof.world.database, proof.keys, outside(settings, mail), "test")


def send(proof: Proof, sealer: Sealer) -> dict[str, bytes | None]:
    """Seal, sign, anchor; the anchors that took the head, with their receipts."""
    proof.record(3)
    sealer.take(NOW)
    sealer.seal(NOW)
    sealer.head(NOW)
    sealer.anchor(NOW)
    with proof.world.database.read() as connection:
        return dict(connection.execute(select(AuditAnchor.target, AuditAnchor.receipt)).all())


def public(proof: Proof) -> list[NoteKey]:
    return [one.key for one in proof.keys]


def test_a_webhook_gets_the_signed_head(clone_of_empty: Proof) -> None:
    got: list[bytes] = []

    def answer(body: bytes) -> tuple[int, bytes]:
        got.append(body)
        return 204, b""

    with http_server(answer) as url:
        assert set(send(clone_of_empty, with_settings(clone_of_empty, audit_anchor_webhook=url))) == {"file", "webhook"}
    assert [one.decode() for one in got] == clone_of_empty.outside.file.notes()
    assert Head.parse(open_note(got[0].decode(), public(clone_of_empty))).size == clone_of_empty.size()


def test_a_webhook_that_refuses_is_asked_again(clone_of_empty: Proof) -> None:
    statuses = [500, 302, 200]
    sealer: Sealer
    with http_server(lambda _: (statuses.pop(0), b"")) as url:
        sealer = with_settings(clone_of_empty, audit_anchor_webhook=url)
        assert set(send(clone_of_empty, sealer)) == {"file"}
        assert sealer.anchor(NOW + timedelta(seconds=6)) == 0
        assert sealer.anchor(NOW + timedelta(seconds=12)) == 1
    assert statuses == []


def test_a_head_is_mailed(clone_of_empty: Proof, smtp: tuple[str, list[bytes]]) -> None:
    url, mails = smtp
    sealer = with_settings(clone_of_empty, smtp_url=url, audit_anchor_mail="auditor@example.com")
    assert set(send(clone_of_empty, sealer)) == {"file", "mail"}
    message = message_from_bytes(mails[0], policy=policy.default)
    assert message["To"] == "auditor@example.com"
    assert f"{clone_of_empty.size()} records" in message["Subject"]
    note = message.get_content().replace("\r\n", "\n")
    assert Head.parse(open_note(split_notes(note)[0], public(clone_of_empty))).size == clone_of_empty.size()


@pytest.mark.case("PR-07")
def test_mail_takes_no_header_from_a_subject_and_no_plain_text_to_elsewhere(smtp: tuple[str, list[bytes]]) -> None:
    url, mails = smtp
    with pytest.raises(Invalid):
        send_mail(url, "a@example.com", "b@example.com", "hello\r\nBcc: c@example.com", "x")
    with pytest.raises(Invalid):
        send_mail("http://127.0.0.1", "a@example.com", "b@example.com", "hello", "x")
    with pytest.raises(Unavailable):
        send_mail(url, "a@example.com", "full@example.com", "hello", "x")
    with pytest.raises(Unavailable):
        send_mail(url.replace("127.0.0.1", "127.0.0.2"), "a@example.com", "b@example.com", "hello", "x")
    assert mails == []


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A time-stamping authority of OpenSSL's: root, signer, serial and configuration in one folder."""
    folder = tmp_path_factory.mktemp("tsa")
    (folder / "serial").write_text("01\n")
    (folder / "tsa.cnf").write_text(
        "[tsa]\ndefault_tsa = one\n[one]\nserial = serial\nsigner_cert = signer.pem\nsigner_key = signer.key\n"
        "signer_digest = sha256\ndefault_policy = 1.2.3.4.1\ndigests = sha256\n"
        "accuracy = secs:1\nordering = no\ntsa_name = yes\ness_cert_id_chain = no\ness_cert_id_alg = sha256\n"
        "[v3]\nextendedKeyUsage = critical,timeStamping\nbasicConstraints = CA:FALSE\n"
        "keyUsage = critical,digitalSignature\n"
        "[ca]\nbasicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign\nsubjectKeyIdentifier = hash\n"
        "[req]\ndistinguished_name = dn\n[dn]\n"
    )
    new = "req -config tsa.cnf -newkey rsa:2048 -nodes"
    openssl(folder, f"{new} -x509 -extensions ca -keyout root.key -out root.pem -subj /CN=root -days 30")
    openssl(folder, f"{new} -keyout signer.key -out signer.csr -subj /CN=signer")
    sign = "x509 -req -in signer.csr -CA root.pem -CAkey root.key -CAcreateserial -extfile tsa.cnf -extensions v3"
    openssl(folder, f"{sign} -out signer.pem -days 20")
    return folder


def openssl(folder: Path, words: str) -> None:
    subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)


def stamped(folder: Path, body: bytes) -> tuple[int, bytes]:
    (folder / "query").write_bytes(body)
    openssl(folder, "ts -reply -config tsa.cnf -queryfile query -out reply")
    return 200, (folder / "reply").read_bytes()


def test_a_head_is_time_stamped_and_openssl_confirms_it(clone_of_empty: Proof, authority: Path, tmp_path: Path) -> None:
    with http_server(lambda body: stamped(authority, body)) as url:
        sealer = with_settings(clone_of_empty, audit_anchor_tsa=url, audit_anchor_tsa_roots=authority / "root.pem")
        receipts = send(clone_of_empty, sealer)
    assert receipts["timestamp"] is not None
    (tmp_path / "head.txt").write_text(clone_of_empty.outside.file.notes()[0], encoding="utf-8")
    (tmp_path / "head.tsr").write_bytes(bytes(receipts["timestamp"]))
    openssl(tmp_path, f"ts -verify -data head.txt -in head.tsr -CAfile {authority / 'root.pem'}")


def test_a_time_stamp_over_something_else_is_no_receipt(clone_of_empty: Proof, authority: Path) -> None:
    answers = []

    def old(body: bytes) -> tuple[int, bytes]:
        """The same answer, whatever is asked."""
        if not answers:
            (authority / "other").write_bytes(b"something else")
            openssl(authority, "ts -query -data other -sha256 -cert -out othercode.tsq")
            answers.append(stamped(authority, (authority / "othercode.tsq").read_bytes()))
        return answers[0]

    for answer in (old, lambda _: (200, b"no stamp"), lambda _: (500, b"")):
        with http_server(answer) as url:
            sealer = with_settings(clone_of_empty, audit_anchor_tsa=url, audit_anchor_tsa_roots=authority / "root.pem")
            assert "timestamp" not in send(clone_of_empty, sealer)


def test_settings_ask_for_what_an_anchor_needs(clone_of_empty: Proof) -> None:
    kind = type(clone_of_empty.world.settings)
    with pytest.raises(ValidationError, match="AUDIT_ANCHOR_TSA_ROOTS"):
        kind(tessera_demo=True, audit_anchor_tsa="https://tsa.example")
    with pytest.raises(ValidationError, match="SMTP_URL"):
        kind(tessera_demo=True, audit_anchor_mail="a@example.com")


def test_a_torn_entry_of_the_leaf_log_is_written_again(clone_of_empty: Proof) -> None:
    proof = clone_of_empty
    proof.record(4)
    proof.seal(NOW)
    log = proof.outside.leaf_log
    assert log is not None
    whole = log.path.read_bytes()
    log.path.write_bytes(whole[:-20])
    assert log.size == proof.size() - 1
    proof.seal(NOW + timedelta(minutes=2))
    assert log.path.read_bytes() == whole
    assert isinstance(log, LeafLog)


def test_the_file_is_appended_to_and_never_rewritten(tmp_path: Path) -> None:
    file = FileAnchor(tmp_path / "deep" / "heads.txt")
    file.append("one\n\n— a x\n")
    file.append("two\n\n— a y\n— b z\n")
    assert file.notes() == ["one\n\n— a x\n", "two\n\n— a y\n— b z\n"]


def test_a_gap_beyond_its_bound_is_seen_recorded_once_and_taken_back(proof: Proof) -> None:
    ledger = proof.world
    assert isinstance(ledger, Ledger)

    def look(now: datetime) -> bool:
        late = watch_gap(ledger.units, 600, now)
        index_new(ledger.database, now)
        return late

    def told() -> list[str]:
        kinds = (Kind.ANCHOR_LATE.value, Kind.ANCHOR_RECOVERED.value)
        query = select(AuditFind.kind).where(AuditFind.kind.in_(kinds)).order_by(AuditFind.at)
        with ledger.database.read() as connection:
            return list(connection.execute(query).scalars())

    def state(now: datetime) -> Any:
        with ledger.database.read() as connection:
            return gap_state(connection, 600, now)["audit_gap"]

    with ledger.unit(now=NOW) as unit:
        unit.record(Record(kind="people.user.created", result="success"))
    assert not look(NOW + timedelta(seconds=600))
    assert look(NOW + timedelta(seconds=601))
    assert state(NOW + timedelta(seconds=601)) == "late"
    assert look(NOW + timedelta(seconds=640))
    assert told() == [Kind.ANCHOR_LATE]
    proof.seal(NOW + timedelta(seconds=650))
    assert state(NOW + timedelta(seconds=651)) == "ok"
    assert not look(NOW + timedelta(seconds=660))
    assert not look(NOW + timedelta(seconds=690))
    assert told() == [Kind.ANCHOR_LATE, Kind.ANCHOR_RECOVERED]
    [late, recovered] = [*proof.told(Kind.ANCHOR_LATE), *proof.told(Kind.ANCHOR_RECOVERED)]
    assert (late["data"], recovered["data"]["bound_s"]) == ({"gap_s": 601, "bound_s": 600}, 600)
