"""Runs that are killed and damaged: ``python -m tools.faults``."""
