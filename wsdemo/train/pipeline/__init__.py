"""The pipeline of all checkpoints: dvc.yaml, the code a stage runs, and stages side by side."""
