"""The decision point's handler on a Flask app, for comparison only: `decide.single.vs_flask`."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Flask, Response, request

from identity.audit.recorder import Recorder
from identity.core.edge import Edge
from identity.core.feed import Feed
from identity.core.hot import HotCall
from identity.core.record import Origin
from identity.core.secrets import new_id
from wsgi import app

bench = Flask("bench")
_feed: Feed = app.extensions["tessera"][Feed]
_recorder: Recorder = app.extensions["tessera"][Recorder]
_edge: Edge = app.extensions["tessera_edge"]


@bench.post("/access/v1/evaluation")
def evaluation() -> Response:
    """The same function as in front of Flask."""
    _feed.start()
    origin = Origin(request.remote_addr or "", request.user_agent.string)
    call = HotCall(request.environ, datetime.now(UTC), str(new_id()), origin)
    answer = _edge.routes[request.path].handle(call)
    _recorder.submit(call, call.pending)
    return Response(answer.body, answer.status, list(answer.headers))


@bench.get("/readyz")
def ready() -> Response:
    """Whether it serves."""
    return Response("{}")


application = bench.wsgi_app
