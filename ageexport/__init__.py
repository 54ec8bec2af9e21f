"""Turns a checkpoint of agetrain into one model file, and proves on real faces that it answers the same."""
