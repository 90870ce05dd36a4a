"""The endpoint for proxies that ask about each request before they pass it on (nginx `auth_request` and its like).

Owns: how such a request is read, and the session that a proxied host has of its own.
Does not own: the sign-in (`login`), the decision (`access`), which hosts there are (`apps`).
"""

from identity.forward.hot import routes as hot_routes
from identity.forward.models import purge
from identity.forward.routes import bp

blueprints = (bp,)

__all__ = ["blueprints", "hot_routes", "purge"]
