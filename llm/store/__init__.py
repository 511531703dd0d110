"""The run folder: files that appear whole or not at all, checksums, fingerprints."""
