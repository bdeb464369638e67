"""States as unknowns beside the controls, for one-step problems."""
