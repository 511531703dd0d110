"""The policy: a frozen base with adapters, its log-probabilities, its samples."""
