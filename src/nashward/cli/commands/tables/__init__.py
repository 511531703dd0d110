"""Commands on tables of payoffs."""
