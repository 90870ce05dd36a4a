"""`python -m examples.erp`"""

from examples.erp.app import create_app
from examples.shared.config import from_env
from examples.shared.web import serve

config = from_env("erp", 8003)
serve(create_app(config), config)
