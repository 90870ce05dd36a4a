"""What the three example applications have in common: settings, sessions, the call to the decision point, a store.

Owns: nothing of identity or policy; that is the server's.
Does not own: any page or rule of an application.
"""
