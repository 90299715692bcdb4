"""The import of published data sets, folders and tables into a data directory: one file per kind of data set."""
