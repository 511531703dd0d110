"""What a run reads at its start and keeps in its folder: prompts, opponents' responses, task texts."""
