"""Where a model lies that is not named by its folder or hub id: in a package, in a GGUF file."""
