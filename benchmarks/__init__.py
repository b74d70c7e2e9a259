"""Measure what the library costs, as ratios within one run, and compare with the budgets.

Nothing of `telemetry_kit` is loaded here. Separate processes run what is measured.
"""
