"""Applications: who relies on us, and how we know them.

Owns: applications, their accounts, clients, service providers, services, resource servers, and caller credentials.
Does not own: roles inside an application (`roles`), any protocol's wire form (the doors).
"""
