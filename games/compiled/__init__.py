"""Compiled loops: a solver whose Steps repeat is traced once, then played without Python between iterations."""
