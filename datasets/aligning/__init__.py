"""Photographs → upright faces of one size, and back again."""
