"""Where people come from: directories read whole, and passwords checked by them.

Owns: table of sources, their settings, LDAP connections, OpenLDAP and LDIF readers, DN comparison, group nesting.
Does not own: what a difference means or who is changed by it (`sync`, `people`), sessions and counters (`login`).
"""
