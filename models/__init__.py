"""Tensors in, tensors out. Knows no command lines, and files in checkpoints.py alone."""
