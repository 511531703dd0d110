"""The fit of a Step: losses, batches, the optimiser's loop, what it achieved."""
