"""Verification of the promises: checks that a user can run against the files and the program."""
