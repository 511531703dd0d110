"""Recipes: one TOML file each, whose keys are the options of ``nashward align``."""
