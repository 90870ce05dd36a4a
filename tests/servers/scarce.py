"""A small file system of a test's own, to be filled up; seen by the processes that are started in it, and by us."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Self


class ScarceDisk:
    """A tmpfs of so many megabytes over `folder`, in a mount namespace that lives while the context is open."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self._folder = folder
        self._megabytes = megabytes

    def __enter__(self) -> Self:
        self._folder.mkdir(exist_ok=True)
        # Without root the namespace is that of a user of its own, who may mount in it.
        own = ["--map-root-user"] if os.geteuid() else []
        mount = f'mount -t tmpfs -o size={self._megabytes}M,mode=700 tessera "$1" && echo mounted && read -r _'
        self._holder = subprocess.Popen(
            ["unshare", *own, "--mount", "sh", "-c", mount, "sh", str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"mounted\n":
            raise RuntimeError("this machine lets nobody mount a tmpfs of his own")
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate()

    @property
    def path(self) -> Path:
        """The file system as this process sees it."""
        return Path(f"/proc/{self._holder.pid}/root{self._folder}")

    @property
    def inside(self) -> list[str]:
        """The words before a command that is to see it at `folder`."""
        own = ["--user", "--preserve-credentials"] if os.geteuid() else []
        return ["nsenter", "--target", str(self._holder.pid), *own, "--mount", f"--wd={Path.cwd()}", "--"]

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"

    def fill(self) -> None:
        """Not one more block is to be had."""
        with self._ballast.open("ab", buffering=0) as file:
            for block in (1_048_576, 65_536, 4_096, 1):
                try:
                    while file.write(b"\0" * block) == block:
                        pass
                except OSError:
                    continue

    def free(self) -> None:
        self._ballast.unlink()
