"""Numbers about recognizers and swaps."""
