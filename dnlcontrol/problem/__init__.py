"""What the user writes: no grid, no solver."""
