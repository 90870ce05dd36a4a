"""What must be told to others.

Owns: the outbox and its delivery.
Does not own: the content of a message (the doors).
"""
