"""Ways to other libraries."""
