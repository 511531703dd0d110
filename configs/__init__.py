"""Recipes for ``--preset``: TOML files in the format that ``--config`` takes."""
