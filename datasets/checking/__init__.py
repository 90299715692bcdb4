"""What can be wrong with a data directory, found before it is trained on."""
