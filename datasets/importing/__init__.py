"""Data sets that people have → a data directory: one file per kind of data set."""
