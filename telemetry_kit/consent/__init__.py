"""May we record? The user's decision, its record, and the rules that can overrule it."""
