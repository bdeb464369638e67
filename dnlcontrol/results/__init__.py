"""What a solve returns, and how it is kept."""
