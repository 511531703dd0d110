"""Win rates, and win rates at equal length."""
