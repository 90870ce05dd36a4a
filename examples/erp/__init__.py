"""ERP (企业资源计划): a CAS client for its pages, and an API that takes the server's access tokens.

Owns: vouchers, purchase orders and vendors.
Does not own: who may do what with them.
"""
