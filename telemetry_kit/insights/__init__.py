"""What the events say: counters first, and answers, formats and reports made from them.

Nothing here can write an event, and a heavy library is imported only where it is used.
"""
