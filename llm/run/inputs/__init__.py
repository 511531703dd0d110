"""What a run reads at its start and its folder keeps: prompts, responses of opponents, texts to fine-tune on."""
