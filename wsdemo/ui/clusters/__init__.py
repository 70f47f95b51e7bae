"""Tab Clusters."""
