"""Instrumentation of the host's code."""
