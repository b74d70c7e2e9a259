"""Events in other formats, and the log of what was exported."""
