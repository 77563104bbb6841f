"""The in-app inbox: its items, their changes, the live feed."""
