"""Standard reports for auditors: made on demand or on schedule, kept with what proves them, sent by mail.

Owns: the catalogue, the made reports, their schedules.
Does not own: the facts and records that they read; the way of a mail (`events`).
"""
