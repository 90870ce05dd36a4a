"""Keys by purpose.

Owns: key sets, their wrapping, their state, the keyring in memory.
Does not own: what is signed or encrypted with them.
"""
