"""Tessera's server: areas (tables and rules) below thin protocol doors.

Owns: everything that needs a database, a clock or the network.
Does not own: the decision itself (package `policies`).
"""

from identity.app import create_app

__all__ = ["create_app"]
