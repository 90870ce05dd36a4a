"""The record: how it is written, kept and guarded."""
