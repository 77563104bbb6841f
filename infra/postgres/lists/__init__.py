"""Reading notifications: lists, one by id, counts; retries of what a filter finds."""
