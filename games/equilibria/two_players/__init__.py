"""n x m games: the simplex method on one table for both players, and refining what the symmetric game gives."""
