"""``nashward demo``."""
