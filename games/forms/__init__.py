"""The forms of a game: a table, one table a context, low rank, implicit; how one is read or symmetrized."""
