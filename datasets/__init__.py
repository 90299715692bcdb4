"""Files in, samples out. Knows no networks."""
