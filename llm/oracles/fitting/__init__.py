"""Oracles of one's own, fitted to votes."""
