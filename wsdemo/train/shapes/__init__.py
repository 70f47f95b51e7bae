"""The recipes of the shape checkpoints."""
