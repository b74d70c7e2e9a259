"""Events in other formats, and the log of exports."""
