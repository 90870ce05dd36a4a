"""Configuration as code: one YAML form, applied idempotently and written back.

Owns: the form, the difference between it and the database, apply and export.
Does not own: any rule of what it configures (`apps`, `roles`, `people`).
"""
