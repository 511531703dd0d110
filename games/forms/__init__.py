"""The forms of a game: a table, one table per context, low rank, implicit; reading a game from a file; symmetrising."""
