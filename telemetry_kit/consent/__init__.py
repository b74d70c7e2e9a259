"""May we record? The user's decision, its record, and what may overrule it."""
