"""One problem, one depth."""
