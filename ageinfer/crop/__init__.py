"""The face crop: its specification and the one implementation that training and runtime share."""
