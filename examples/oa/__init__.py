"""Office (协同办公): a SAML 2.0 service provider with approvals, deciding nothing by itself.

Owns: approvals and their pages.
Does not own: who may do what with an approval.
"""
