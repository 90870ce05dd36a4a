"""The OpenID AuthZEN Authorization API 1.0: a translation, with no rule of its own.

Owns: the wire form of evaluation and evaluations, the metadata document, the bundle's wire form, and what comes back.
Does not own: the decision (`access`), who the caller is (`apps.authenticate`).
"""
