"""What did the networks look at, and can the pictures that say so be trusted?

`maps`, `checks`, `evidence`, `figures` and `summary` work from arrays and stored files;
only `target`, `cams` and `views` load TensorFlow, on which tf-keras-vis is built.
"""
