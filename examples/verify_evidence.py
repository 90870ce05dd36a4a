#!/usr/bin/env python3
"""Check an evidence pack of Tessera's audit. One file, Python 3.9 or newer, nothing to install, nothing of Tessera.

    python verify_evidence.py PACK --key 'host/audit+1a2b3c4d+AeJ…' [--heads FILE] [--records-key 'host/evidence+…']

PACK is a folder or a zip. `--key` is the sealer's public key as you were given it, not as the pack says. With `--heads`
(the heads that you received, one signed note after the other) the pack's head must be one of them. With `--records-key`
the manifest's signature is checked too: who made this selection, when and why.

Proved is: each record stands in the log, at its number, unchanged, under a head that the sealer signed at that time.
Not proved is that the pack holds all records that one could wish for: that is what the manifest's query says.

Ends with 0 when everything holds, with 1 and the first thing that does not hold otherwise.
"""

import argparse
import base64
import hashlib
import json
import pathlib
import sys
import zipfile


class Bad(Exception):
    """Something does not hold; the text says what."""


# Ed25519 (RFC 8032 §5.1): verification only, by whole numbers. Slow (a few milliseconds), and used once or twice.

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def recover_x(y, sign):
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if square == 0:
        return None if sign else 0
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P:
        return None
    return P - x if x & 1 != sign else x


def point(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


def add(a, b):
    e, f = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    k, m, n, o = f - e, h - g, h + g, f + e
    return (k * m % P, n * o % P, m * n % P, k * o % P)


def times(number, base):
    result = (0, 1, 1, 0)
    while number:
        if number & 1:
            result = add(result, base)
        base = add(base, base)
        number >>= 1
    return result


BASE = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def ed25519_holds(public, message, signature):
    if len(public) != 32 or len(signature) != 64:
        return False
    a, r = point(public), point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= ORDER:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % ORDER
    left, right = times(s, BASE), add(r, times(h, a))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


# Signed notes (https://c2sp.org/signed-note) and tree heads (https://c2sp.org/tlog-checkpoint).


def parse_key(text):
    try:
        name, key_id, encoded = text.strip().split("+", 2)
        raw = base64.b64decode(encoded, validate=True)
    except ValueError:
        raise Bad(f"{text!r} is not a key (name+id+base64)") from None
    made = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
    if len(raw) != 33 or raw[0] != 1 or made.hex() != key_id.lower():
        raise Bad(f"the key {name!r} is malformed")
    return name, made, raw[1:]


def open_note(note, key, what):
    """The text of a note that this key signed."""
    name, key_id, public = key
    text, found, signatures = note.rpartition("\n\n")
    text += "\n"
    for line in signatures.splitlines() if found else ():
        parts = line.split(" ")
        if len(parts) != 3 or parts[0] != "—" or parts[1] != name:
            continue
        raw = base64.b64decode(parts[2])
        if raw[:4] == key_id:
            if ed25519_holds(public, text.encode(), raw[4:]):
                return text
            raise Bad(f"the signature of {what} is wrong")
    raise Bad(f"{what} is not signed by the key {name}")


def parse_head(text):
    lines = text.split("\n")
    return lines[0], int(lines[1]), base64.b64decode(lines[2]), lines[3].partition(" ")[2]


# RFC 9162 §2.1.3.2.


def leads_to(leaf, index, size, path):
    """The root to which the path leads from the leaf, or None."""
    if not 0 <= index < size:
        return None
    fn, sn, node = index, size - 1, leaf
    for part in path:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            node = hashlib.sha256(b"\x01" + part + node).digest()
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = hashlib.sha256(b"\x01" + node + part).digest()
        fn, sn = fn >> 1, sn >> 1
    return node if sn == 0 else None


# The pack.


def read_pack(path):
    if path.is_dir():
        return {one.name: one.read_bytes() for one in path.iterdir() if one.is_file()}
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if "/" not in name}


def lines_of(files, name):
    data = files.get(name)
    if data is None:
        raise Bad(f"{name} is missing")
    return data.split(b"\n")[:-1]


def check_manifest(files, key):
    note = files.get("manifest.txt", b"").decode()
    text = open_note(note, key, "the manifest") if key else note.rpartition("\n\n")[0] + "\n"
    named = {}
    for line in text.splitlines():
        if line.startswith("file "):
            _, name, size, digest = line.split(" ")
            named[name] = (int(size), digest)
    for name, (size, digest) in named.items():
        data = files.get(name)
        if data is None or len(data) != size or hashlib.sha256(data).hexdigest() != digest:
            raise Bad(f"{name} is not the file that the manifest names")
    for name in files:
        if name != "manifest.txt" and name not in named:
            raise Bad(f"{name} is not in the manifest")
    return [line for line in text.splitlines()[1:] if not line.startswith("file ")]


def check_records(files, size, root):
    """The number of records; every one leads to the root."""
    records, proofs = lines_of(files, "records.jsonl"), lines_of(files, "proofs.jsonl")
    if len(records) != len(proofs):
        raise Bad(f"{len(records)} records and {len(proofs)} proofs")
    salted, seen = {}, set()
    for number, line in enumerate(records, 1):
        record, proof = json.loads(line), json.loads(proofs[number - 1])
        where = f"record {record.get('id')} (line {number}, seq {proof.get('seq')})"
        path = [base64.b64decode(one) for one in proof["path"]]
        leaf = hashlib.sha256(b"\0" + line).digest()
        if record["id"] != proof["id"] or leads_to(leaf, proof["seq"], size, path) != root:
            raise Bad(f"{where} is not what was sealed")
        if record["id"] in seen:
            raise Bad(f"{where} is there twice")
        seen.add(record["id"])
        for name, digest in record.get("personal", {}).items():
            salted[record["id"], name] = digest
    for line in files.get("personal.jsonl", b"").split(b"\n")[:-1]:
        value = json.loads(line)
        made = hashlib.sha256(base64.b64decode(value["salt"]) + value["value"].encode()).hexdigest()
        if salted.get((value["id"], value["field"])) != made:
            raise Bad(f"the personal value {value['field']} of record {value['id']} is not the one that was recorded")
    return len(records)


def restorations(files, key):
    """What the sealer states of restorations from a backup: records that the log lost and that no pack can hold."""
    found, note, signed = [], "", False
    for line in [*files.get("restored.txt", b"").decode().splitlines(keepends=True), ""]:
        if signed and not line.startswith("— "):
            text = open_note(note, key, "the statement of a restoration")
            said = dict(one.split(" ", 1) for one in text.splitlines()[1:])
            found.append(
                f"the log was restored at {said['at']} to a backup of {said['backup']}, by {said['by']}: records "
                f"{said['kept']} to {int(said['lost']) - 1} of the earlier history are lost ({said['reason']})"
            )
            note, signed = "", False
        if note or line.strip():
            note += line
            signed = line.startswith("— ")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pack", type=pathlib.Path)
    parser.add_argument("--key", required=True, help="the sealer's public key, name+id+base64")
    parser.add_argument("--heads", type=pathlib.Path, help="file of the heads that you received")
    parser.add_argument("--records-key", help="public key of the manifest's signature")
    given = parser.parse_args()
    try:
        files = read_pack(given.pack)
        said = check_manifest(files, parse_key(given.records_key) if given.records_key else None)
        note = files.get("head.txt", b"").decode()
        origin, size, root, at = parse_head(open_note(note, parse_key(given.key), "the head"))
        if given.heads is not None and note.strip() not in given.heads.read_text(encoding="utf-8"):
            raise Bad(f"the head of {size} records is none of those that you received")
        count = check_records(files, size, root)
        said += restorations(files, parse_key(given.key))
    except Bad as error:
        print(f"BAD: {error}")
        return 1
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError, zipfile.BadZipFile) as error:
        print(f"BAD: the pack cannot be read: {error!r}")
        return 1
    for line in said:
        print(line)
    if not given.records_key:
        print("(the manifest's signature was not checked: give --records-key)")
    print(f"{count} records hold, under the head of {size} records that {origin} signed at {at}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
