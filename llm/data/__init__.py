"""What is read: prompts, responses."""
