"""Benchmarks of the whole service, as a user starts it: `scripts/bench [accept|engine|latency|all] [--quick]`."""
