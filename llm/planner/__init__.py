"""Will it fit: memory and hours of a run, before anything is loaded."""
