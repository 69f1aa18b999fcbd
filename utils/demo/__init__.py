"""A page and an API that read the faces in a photograph. Start it with ``./run_all.sh demo``."""
