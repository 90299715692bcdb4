"""What train.py does, one mode per module, and what a training run is made of."""
