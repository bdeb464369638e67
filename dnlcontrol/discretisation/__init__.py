"""A problem at a depth."""
