"""Oracles corrected for what is wrong with them: style, overconfidence, random flips, ties."""
