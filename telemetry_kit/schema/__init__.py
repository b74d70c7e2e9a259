"""What may be recorded: events, fields, values, and how a record is written."""
