"""What did the networks look at, and can the pictures that say so be trusted?

The only part of the package that needs TensorFlow: tf-keras-vis is built on it.
"""
