"""Benchmarks of the whole service, as a user starts it:
`scripts/bench [accept|engine|http|latency|memory|priority|all] [--quick]`.
"""
