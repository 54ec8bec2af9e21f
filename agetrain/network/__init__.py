"""The network, its starting weights, its checkpoint and the calibration of its uncertainty."""
