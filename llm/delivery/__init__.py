"""What leaves a run: merged models, adapters, preference data, model cards, and the proof that they are the policy."""
