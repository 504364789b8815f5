"""Real components and our programs on one machine: what deploy/local, the system tests and the benchmarks drive."""
