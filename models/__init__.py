"""Networks, losses and learners: tensors in, tensors out. Only checkpoints.py knows files."""
