"""What is read: prompts, answers."""
