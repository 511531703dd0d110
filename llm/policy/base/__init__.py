"""The base of a policy: its files are checked, then its weights are read; which of its layers an adapter changes."""
