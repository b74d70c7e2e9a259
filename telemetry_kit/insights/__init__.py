"""Insights from the recorded events: counters, metrics, answers and selections."""
