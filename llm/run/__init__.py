"""Self-play of a language model: the executor and its stages, the run folder's inputs, progress."""
