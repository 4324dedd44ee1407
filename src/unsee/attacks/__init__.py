"""Ways to get the knowledge back, one file per attack."""
