"""The WSGI application that a server loads: `granian --interface wsgi --blocking-threads 4 wsgi:application`."""

import atexit
import gc
import resource
import sys

from identity import create_app
from identity.core import serving
from identity.core.settings import Settings, SettingsError

# A crash must not leave our memory, with keys and what people typed, in a file.
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
# At the end of a process Python looks through all of its objects several times, which takes seconds on a busy machine.
atexit.register(gc.freeze)
try:
    app = create_app(Settings.from_env())
except SettingsError as error:
    sys.exit(str(error))
serving.install()
application = app.extensions["tessera_edge"]
