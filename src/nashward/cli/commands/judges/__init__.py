"""Commands on oracles."""
