"""What may be chosen: one line per option, presets, checks, and the files that hold options."""
