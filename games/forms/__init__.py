"""The forms of a game: a table, one table a context, low rank, implicit; reading one from a file, symmetrising one."""
