"""Insights from events: counters first, then answers, formats and reports made from them.

Nothing here can write an event, and a heavy library is imported only where it is used.
"""
