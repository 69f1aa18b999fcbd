"""How good, for whom, how sure: everything that can be told from predictions alone."""
