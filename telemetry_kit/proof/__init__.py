"""The promises, checked: what a sceptical user runs against the files and against the program.

Nothing in this wing records an event; secrets that it looks for stay in memory.
"""
