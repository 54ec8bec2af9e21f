"""What a model answers to pictures, and the figures that follow from it."""
