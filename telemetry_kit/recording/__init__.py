"""From an event to a line in the log."""
