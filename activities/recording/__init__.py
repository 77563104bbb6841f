"""What became of messages, on its way to the database: many at a time, and through an outage."""
