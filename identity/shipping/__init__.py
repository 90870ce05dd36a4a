"""The record on its way to a SIEM: what was recorded leaves this installation, at least once and in order.

Owns: targets and how far each has been served, the wire forms (ECS JSON, RFC 5424, OTLP), the senders.
Does not own: the records and their order (`audit`), who configures a target (`configuration`).
"""
