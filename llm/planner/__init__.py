"""Estimates of a run's memory and time from its configuration, before any weights are loaded."""
