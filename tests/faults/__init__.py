"""Faults of the machine beneath: what clients were told is compared with what is stored."""
