"""Games of two players, n x m: the simplex method on one table for both, and the way back from the symmetric game."""
