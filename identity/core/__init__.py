"""Leaf modules that every area stands on.

Owns: settings, database, Unit, errors, secrets, change feed, once, leases, hot routes, the Flask glue.
Does not own: any table of an area, any rule of the product; it imports no area.
"""
