"""What a run writes: atomic files, checksums, the run folder, fingerprints of what was given."""
