"""Commands that take a policy out of a run."""
