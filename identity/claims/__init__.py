"""What an application learns of a person: one release for every protocol.

Owns: the catalogue of attributes and their release.
Does not own: how a protocol writes them down (the doors).
"""
