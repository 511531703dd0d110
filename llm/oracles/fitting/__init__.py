"""Fitting of oracles to votes."""
