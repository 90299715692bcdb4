"""What is done with a trained run: one file per mode."""
