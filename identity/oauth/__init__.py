"""The OAuth 2 and OpenID Connect door.

Owns: authorization, tokens, userinfo, introspection, revocation, discovery, RP-initiated and back-channel logout.
Does not own: the login itself (`login`), what is released (`claims`), who the client is (`apps.authenticate`).
"""

from identity.oauth.hot import routes as hot_routes
from identity.oauth.logout import register as register_logout
from identity.oauth.routes import bp
from identity.oauth.routes_logout import bp as logout_bp
from identity.oauth.store import forget_expired

blueprints = (bp, logout_bp)

__all__ = ["blueprints", "forget_expired", "hot_routes", "register_logout"]
