"""From the claim of a row to what became of its message, with everything that may stand between."""
