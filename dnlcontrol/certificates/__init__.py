"""Checks that a result is what it says."""
