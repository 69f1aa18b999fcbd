"""Pieces of a training, which the cells of notebooks 02, 03 and 04 put together."""
