"""The options of train.py: their definitions, presets and checks, and the files that hold them."""
