"""The schema of a record: events, fields, values, and their encoding."""
