"""Files on disk, written and read safely."""
