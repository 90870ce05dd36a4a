"""An evidence pack holds for whoever has the public key and one Python file: for what was sealed, and nothing else."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from identity.audit.evidence import Asked, build
from identity.core.errors import Invalid, NotFound
from identity.keys.seal import SealKey, load_seal_keys
from tests.audit.proof import Proof

VERIFIER = Path(__file__).resolve().parents[2] / "examples" / "verify_evidence.py"
Files = dict[str, bytes]


def another_key(proof: Proof, tmp_path: Path) -> SealKey:
    return load_seal_keys(proof.world.settings.model_copy(update={"seal_key_file": tmp_path / "other.key"}))[0]


def pack(proof: Proof, tmp_path: Path) -> Files:
    ids = proof.record(7, personal={"login": "张三", "mail": "z@example.com"})
    proof.seal()
    asked = Asked("auditor", datetime.now(UTC), "yearly audit\nwith a line break", "kind=people.user.created")
    with proof.world.database.read(consistent=True) as connection:
        files, _head = build(connection, ids, asked, another_key(proof, tmp_path), [one.key for one in proof.keys])
    return files


def check(files: Files, folder: Path, *options: str) -> tuple[int, str]:
    folder.mkdir(exist_ok=True)
    for one in folder.iterdir():
        one.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-I", str(VERIFIER), str(folder), *options], capture_output=True, text=True, check=False
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def test_a_pack_holds_for_an_outsider(sealed: Proof, tmp_path: Path) -> None:
    files = pack(sealed, tmp_path)
    key, signer = str(sealed.keys[0].key), str(another_key(sealed, tmp_path).key)
    heads = str(sealed.outside.file.path)
    code, out = check(files, tmp_path / "pack", "--key", key, "--records-key", signer, "--heads", heads)
    assert code == 0, out
    assert "7 records hold" in out
    assert "reason yearly audit with a line break" in out
    with zipfile.ZipFile(tmp_path / "pack.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    done = subprocess.run([sys.executable, "-I", VERIFIER, tmp_path / "pack.zip", "--key", key], check=False)
    assert done.returncode == 0


def changed_record(files: Files) -> None:
    files["records.jsonl"] = files["records.jsonl"].replace(b'"result":"success"', b'"result":"refused"', 1)


def dropped_record(files: Files) -> None:
    files["records.jsonl"] = files["records.jsonl"].split(b"\n", 1)[1]


def doubled_record(files: Files) -> None:
    for name in ("records.jsonl", "proofs.jsonl"):
        files[name] += files[name].split(b"\n", 1)[0] + b"\n"


def another_place(files: Files) -> None:
    lines = [json.loads(one) for one in files["proofs.jsonl"].splitlines()]
    lines[0]["seq"] += 1
    files["proofs.jsonl"] = b"".join(json.dumps(one).encode() + b"\n" for one in lines)


def another_head(files: Files) -> None:
    lines = files["head.txt"].split(b"\n")
    lines[1] = b"%d" % (int(lines[1]) + 1)
    files["head.txt"] = b"\n".join(lines)


def another_name(files: Files) -> None:
    files["personal.jsonl"] = files["personal.jsonl"].replace("张三".encode(), "李四".encode(), 1)


def unreadable(files: Files) -> None:
    files["records.jsonl"] = b"[1]\n" * 7


def more_files(files: Files) -> None:
    files["more.txt"] = b"trust me"


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (changed_record, "is not what was sealed"),
        (dropped_record, "6 records and 7 proofs"),
        (doubled_record, "is there twice"),
        (another_place, "is not what was sealed"),
        (another_head, "the signature of the head is wrong"),
        (another_name, "is not the one that was recorded"),
        (unreadable, "cannot be read"),
        (more_files, "is not in the manifest"),
    ],
)
def test_a_spoilt_pack_does_not_hold(
    clone_of_one: Proof, tmp_path: Path, spoil: Callable[[Files], None], word: str
) -> None:
    """Also when the manifest was made anew to fit (by whoever does not have its key)."""
    files = pack(clone_of_one, tmp_path)
    before = dict(files)
    spoil(files)
    key, signer = str(clone_of_one.keys[0].key), str(another_key(clone_of_one, tmp_path).key)
    code, out = check(files, tmp_path / "pack", "--key", key, "--records-key", signer)
    assert code == 1, out
    assert "manifest" in out
    if spoil is not more_files:
        text = files["manifest.txt"].decode()
        for name, data in files.items():
            text = text.replace(digest(before[name]), digest(data))
            text = text.replace(f"file {name} {len(before[name])} ", f"file {name} {len(data)} ")
        files["manifest.txt"] = text.encode()
        code, out = check(files, tmp_path / "pack", "--key", key, "--records-key", signer)
        assert "the signature of the manifest is wrong" in out
        code, out = check(files, tmp_path / "pack", "--key", key)
    assert code == 1, out
    assert out.startswith("BAD: "), out
    assert word in out


def test_a_pack_under_another_key_or_head_does_not_hold(sealed: Proof, tmp_path: Path) -> None:
    files = pack(sealed, tmp_path)
    code, out = check(files, tmp_path / "pack", "--key", str(another_key(sealed, tmp_path).key))
    assert (code, "is not signed by the key" in out) == (1, True)
    received = tmp_path / "heads.txt"
    received.write_text("\n".join(sealed.outside.file.notes()[:-1]), encoding="utf-8")
    code, out = check(files, tmp_path / "pack", "--key", str(sealed.keys[0].key), "--heads", str(received))
    assert (code, "none of those that you received" in out) == (1, True)


def test_a_pack_is_made_of_sealed_records_only(sealed: Proof, tmp_path: Path) -> None:
    [new] = sealed.record(1)
    asked = Asked("auditor", datetime.now(UTC), "", "")
    with sealed.world.database.read(consistent=True) as connection:
        with pytest.raises(NotFound):
            build(connection, [new], asked, another_key(sealed, tmp_path))
        with pytest.raises(Invalid):
            build(connection, [], asked, another_key(sealed, tmp_path))


def test_the_verifiers_own_ed25519_agrees_with_the_rfc() -> None:
    """RFC 8032 §7.1, tests 1 to 3, and each of them spoilt."""
    code = (
        "import importlib.util, sys, json\n"
        f"spec = importlib.util.spec_from_file_location('v', {str(VERIFIER)!r})\n"
        "v = importlib.util.module_from_spec(spec); spec.loader.exec_module(v)\n"
        "print(json.dumps([v.ed25519_holds(*map(bytes.fromhex, one)) for one in json.loads(sys.argv[1])]))\n"
    )
    vectors = [
        (
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ]
    spoilt = [(public, message + "00", signature) for public, message, signature in vectors]
    large = [(public, message, signature[:64] + "ff" * 32) for public, message, signature in vectors]
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([*vectors, *spoilt, *large])], capture_output=True, check=True
    )
    assert json.loads(done.stdout) == [True] * 3 + [False] * 6


def digest(data: bytes) -> str:

    return hashlib.sha256(data).hexdigest()
