"""Oracles that are networks: PairRM, GPM, reward models, and how their checkpoints are read."""
