"""The benchmarks: every test is one cell of the matrix."""
