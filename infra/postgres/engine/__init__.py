"""The hot statements of the engine: grouping, planning, claiming, outcomes, control.

Each is written so that only one plan is possible whatever the statistics say: rows are picked in a materialised CTE and
changed by their `ctid`, and what belongs to them is looked up by a LATERAL that OFFSET 0 keeps from being flattened.
"""
