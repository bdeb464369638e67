"""Several depths, several starts."""
