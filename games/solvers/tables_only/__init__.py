"""Solvers that are no mirror steps: for tables only."""
