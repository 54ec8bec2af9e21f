"""Trains age networks on real data: data sets, recipes, the training loop, metrics and checkpoints."""
