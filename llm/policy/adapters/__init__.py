"""Adapters as files and as matrices: which part of PEFT's format is read, padding to a larger rank, sums."""
