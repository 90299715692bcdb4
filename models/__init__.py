"""Tensors in, tensors out. Knows no files and no command lines."""
