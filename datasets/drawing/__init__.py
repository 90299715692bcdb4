"""The built-in faces: the parameters of persons, scenes and expressions, and the drawing of them."""
