"""JSON Lines on disk: `lease` writes, `reader` reads, `upkeep` seals, archives and deletes.

Nothing here knows what an event means, or whether it may be recorded.
"""
