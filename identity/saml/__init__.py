"""The SAML 2.0 identity provider door.

Owns: SAML requests, responses, bindings and metadata.
Does not own: the login itself (`login`), what is released (`claims`).
"""

from identity.saml.routes import bp

blueprints = (bp,)

__all__ = ["blueprints"]
