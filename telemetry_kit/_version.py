"""The one place the version is written; the build reads it here, and no other module sets it."""

__version__ = "0.1.0"
