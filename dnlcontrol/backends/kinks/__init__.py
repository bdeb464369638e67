"""Points at kinks: how far they are from stationary, and Newton's method on the active kinks."""
