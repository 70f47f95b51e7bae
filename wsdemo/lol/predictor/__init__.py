"""What ships: ensembles, their calibration, answers and files."""
