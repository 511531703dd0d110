"""The published protocols of language models as judges: what a judge reads, and what its answer means. No network."""
