"""What a run wins under each of several objectives, and what one costs under another."""
