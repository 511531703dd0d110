"""Python functions and objects of a user as oracles."""
