"""Pure functions that compare values with true values; an answer that could not be read is None and counts as wrong."""
