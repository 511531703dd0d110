"""What has not run on its hardware yet: streamed layers, keys and values in 8 bits, mixtures token by token."""
