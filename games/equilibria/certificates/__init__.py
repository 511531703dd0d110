"""Proofs about equilibria, in double precision and in whole numbers: there is only one, or here is another."""
