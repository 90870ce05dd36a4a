"""The SAML 2.0 identity provider door.

Owns: SAML requests, responses, bindings, logout and metadata.
Does not own: the login itself (`login`), what is released (`claims`).
"""

from identity.saml import routes, routes_logout
from identity.saml.logout import purge
from identity.saml.logout import register as register_logout
from identity.saml.routes_logout import onward

blueprints = (routes.bp, routes_logout.bp)

__all__ = ["blueprints", "onward", "purge", "register_logout"]
