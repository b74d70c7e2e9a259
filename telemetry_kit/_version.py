"""The version; the build reads it here.

Example:
    >>> from telemetry_kit import __version__
    >>> __version__.split(".")[0].isdigit()
    True
"""

__version__ = "0.1.0"
