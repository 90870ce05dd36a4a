"""The WSGI application that a server loads: `granian --interface wsgi wsgi:application`."""

from identity import create_app
from identity.core.settings import Settings

app = create_app(Settings.from_env())
application = app.extensions["tessera_edge"]
