"""What is known of L -> infinity."""
