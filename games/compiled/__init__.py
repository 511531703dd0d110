"""Compiled loops: a solver whose Steps repeat is traced once and played without Python between its iterations."""
