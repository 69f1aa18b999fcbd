"""Which networks? Registry, weights, flat networks with one head a task.

`registry` needs no Keras; the other modules do, so nothing is imported here.
"""
