"""Adapters as files and as matrices: what of PEFT's format is read, padding to a larger rank, sums."""
