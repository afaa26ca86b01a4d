"""Commands that need several rooms at once."""
