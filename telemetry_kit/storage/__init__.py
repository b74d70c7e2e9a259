"""The log on disk: JSON Lines, written, rotated, read, rewritten and deleted."""
