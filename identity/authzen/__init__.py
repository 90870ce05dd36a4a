"""The OpenID AuthZEN Authorization API 1.0: a translation, with no rule of its own.

Owns: the wire form of evaluation and evaluations, and the metadata document.
Does not own: the decision (`access`), who the caller is (`apps.authenticate`).
"""
