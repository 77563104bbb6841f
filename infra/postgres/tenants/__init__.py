"""What a tenant has: apps and keys, categories, templates, provider accounts."""
