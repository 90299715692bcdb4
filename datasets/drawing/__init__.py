"""The built-in faces: persons, scenes and expressions as numbers, and how they are drawn."""
