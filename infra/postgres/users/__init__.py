"""Users of tenants: records, identities, devices, preferences, suppressions; what is told of them and erased."""
