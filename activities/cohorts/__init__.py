"""One call of `deliver`: a cohort is planned, its groups are handed over, what becomes due meanwhile is taken on."""
