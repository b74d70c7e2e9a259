"""What the events say: counters first, and answers, formats and reports made from them.

Nothing here opens the journal: events come in as mappings, from whoever read them.
"""
