"""What an accepted request writes: notifications and their work, keys of idempotency, items of digests, one-time codes."""
