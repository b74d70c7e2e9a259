"""Keys, pseudonyms, and the names that may be stored in plain text."""
