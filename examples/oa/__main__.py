"""`python -m examples.oa`"""

from examples.oa.app import create_app
from examples.shared.config import from_env
from examples.shared.web import serve

config = from_env("oa", 8002)
serve(create_app(config), config)
