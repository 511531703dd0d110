"""The parts of ``benchmarks/gpu.py``: each a script that prints its results as lines of JSON."""
