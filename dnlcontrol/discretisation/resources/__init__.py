"""What a discrete problem takes, before it is built: counts, memory, seconds; and what is there."""
