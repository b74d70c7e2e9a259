"""The budgets: what the library may cost, measured as ratios within one run.

Nothing of `telemetry_kit` is loaded here; what is measured runs in processes of its own.
"""
