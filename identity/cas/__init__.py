"""The CAS door.

Owns: service tickets, their validation, CAS logout and single logout messages.
Does not own: the login itself (`login`), which services there are (`apps`).
"""

from identity.cas.hot import routes as hot_routes
from identity.cas.logout import register as register_logout
from identity.cas.models import purge
from identity.cas.routes import bp

blueprints = (bp,)

__all__ = ["blueprints", "hot_routes", "purge", "register_logout"]
