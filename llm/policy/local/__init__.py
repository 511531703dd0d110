"""Where a model that is named in another way than by its folder or hub id lies: in a package, in a GGUF file."""
