"""Face crops to train on: cutting, caching, packing and shipping them."""
