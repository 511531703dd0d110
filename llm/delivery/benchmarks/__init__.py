"""The files and the tables of public benchmarks."""
