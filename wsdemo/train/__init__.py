"""One readable recipe for each shipped checkpoint."""
