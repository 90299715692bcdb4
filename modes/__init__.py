"""What train.py does beside training, one mode per module: from the files of a run to pictures and figures."""
