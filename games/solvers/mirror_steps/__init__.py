"""Solvers that yield mirror Steps: for tables and for language models."""
