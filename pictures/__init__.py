"""Tensors and numbers drawn as PIL images."""
