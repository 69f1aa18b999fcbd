"""How fast is it, measured against what a user would write today? See ``python -m utils.bench``."""
