"""Settings: what a run, a fit or a plan is asked for. Imports no torch."""
