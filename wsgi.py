"""The WSGI application that a server loads: `granian --interface wsgi wsgi:application`."""

import sys

from identity import create_app
from identity.core.settings import Settings, SettingsError

try:
    app = create_app(Settings.from_env())
except SettingsError as error:
    sys.exit(str(error))
application = app.extensions["tessera_edge"]
