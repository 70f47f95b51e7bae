"""The recipes of the face checkpoints."""
