"""Solvers that make no mirror steps: for tables only."""
