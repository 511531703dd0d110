"""Several oracles as one: the rules, their weights, and an ensemble from names."""
