"""An example application's settings, from its environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Config:
    """Where the identity server is, where this application is, and its secrets."""

    code: str
    tessera_url: str
    base_url: str
    data: Path
    pdp_secret: str
    client_id: str
    client_secret: str

    @property
    def port(self) -> int:
        return urlsplit(self.base_url).port or 80

    @property
    def secure(self) -> bool:
        return self.base_url.startswith("https://")


def from_env(code: str, default_port: int, *, needs_client: bool = False) -> Config:
    """The settings; ends the program with a sentence when a secret is missing."""
    return Config(
        code=code,
        tessera_url=os.environ.get("TESSERA_URL", "http://localhost:8000").rstrip("/"),
        base_url=os.environ.get("BASE_URL", f"http://localhost:{default_port}").rstrip("/"),
        data=Path(os.environ.get("DATA", "var/demo")),
        pdp_secret=_secret("PDP_SECRET"),
        client_id=os.environ.get("CLIENT_ID", code),
        client_secret=_secret("CLIENT_SECRET") if needs_client else "",
    )


def _secret(name: str) -> str:
    """NAME, or what the file that NAME_FILE names holds."""
    path = os.environ.get(f"{name}_FILE")
    value = Path(path).read_text(encoding="utf-8").strip() if path else os.environ.get(name, "")
    if not value:
        raise SystemExit(f"Set {name} or {name}_FILE.")
    return value
