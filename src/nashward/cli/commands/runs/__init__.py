"""Commands on runs of self-play."""
