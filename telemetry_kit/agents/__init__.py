"""Coding agents: what their hooks report, where these hooks lie, and the names that they use."""
