"""DF-02: what must not be served is not started, and the message says all that is wrong."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def start(folder: Path, **changes: str) -> str:
    """What `flask --app wsgi identity migrate` says when it refuses; raises when it does not."""
    good = folder / "root.key"
    good.write_bytes(secrets.token_bytes(32))
    good.chmod(0o600)
    base = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    wanted = {"PUBLIC_URL": "https://id.example.com", "ROOT_KEY_FILE": str(good), "TESSERA_VAR": str(folder / "var")}
    env = {**base, **wanted, **changes}
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", "identity", "migrate"],
        cwd=ROOT,
        env={name: value for name, value in env.items() if value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stderr
    assert not (folder / "var" / "tessera.db").exists()
    return done.stderr


def key(folder: Path, content: bytes, mode: int = 0o600) -> str:
    path = folder / "other.key"
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def test_df_02_every_fault_is_listed_at_once(tmp_path: Path) -> None:
    said = start(tmp_path, PUBLIC_URL="id.example.com", LOG_LEVEL="LOUD", ACCESS_TOKEN_TTL_S="86400")
    assert said.startswith("Tessera cannot start:")
    for name in ("PUBLIC_URL", "LOG_LEVEL", "ACCESS_TOKEN_TTL_S"):
        assert name in said


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"PUBLIC_URL": "http://id.example.com"}, "PUBLIC_URL must be https outside the demo"),
        ({"ROOT_KEY_FILE": ""}, "ROOT_KEY_FILE must be set outside the demo"),
        ({"ROOT_KEY_FILE": "/nowhere/root.key"}, "/nowhere/root.key does not exist"),
        ({"TESSERA_DEMO": "1"}, "TESSERA_DEMO serves loopback only"),
        ({"FLASK_DEBUG": "1"}, "FLASK_DEBUG"),
    ],
)
def test_df_02_an_unsafe_setting_refuses_the_start(tmp_path: Path, changes: dict[str, str], sentence: str) -> None:
    assert sentence in start(tmp_path, **changes)


@pytest.mark.parametrize(
    ("content", "mode", "sentence"),
    [
        (b"short", 0o600, "must hold 32 bytes"),
        (b"passwordpasswordpasswordpassword", 0o600, "is not random"),
        (bytes(range(32)), 0o640, "readable by others"),
    ],
)
def test_df_02_a_weak_root_key_refuses_the_start(tmp_path: Path, content: bytes, mode: int, sentence: str) -> None:
    assert sentence in start(tmp_path, ROOT_KEY_FILE=key(tmp_path, content, mode))
