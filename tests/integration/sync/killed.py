"""A run in a process of its own that is killed (SIGKILL) once it reaches a stage: `python -m … STAGE`."""

from __future__ import annotations

import os
import signal
import sys

from identity.app import create_app
from identity.core.record import Actor
from identity.core.settings import Settings
from identity.core.unit import Units
from identity.sync.run import run_source


def main(wanted: str) -> None:
    """Run the source `hq` and die."""

    def progress(stage: str, _done: int) -> None:
        if stage == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    app = create_app(Settings.from_env())
    run_source(app.extensions["tessera"][Units], "hq", Actor.system("killed"), progress=progress)


if __name__ == "__main__":
    main(sys.argv[1])
