"""Proofs about equilibria, in double precision and in whole numbers: that there is one only, or which others."""
