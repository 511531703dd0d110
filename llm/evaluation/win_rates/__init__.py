"""Win rates, and length-controlled win rates."""
