"""How studies run: the runner, the workers, and several studies at once."""
