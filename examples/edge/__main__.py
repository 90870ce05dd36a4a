"""`python -m examples.edge SUBJECT ACTION TYPE ID`: one question, decided here; the answer and where it was made.

TESSERA_URL, CODE (the application's) and PDP_SECRET come from the environment.
"""

from __future__ import annotations

import os
import sys

from examples.edge.pep import Edge
from examples.shared.config import from_env
from examples.shared.pdp import Question


def main() -> None:
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    subject, action, kind, resource_id = sys.argv[1:]
    config = from_env(os.environ.get("CODE", "erp"), 0)
    edge = Edge(config.tessera_url, config.code, config.pdp_secret)
    edge.refresh()
    answer = edge.ask(subject, Question(action, kind, resource_id, {}))
    local = not answer.en and answer.available
    print(f"{'permit' if answer.permit else 'deny'} ({answer.reason}), decided {'here' if local else 'there'}")
    if not edge.send():
        raise SystemExit("The decision could not be sent back.")


if __name__ == "__main__":
    main()
