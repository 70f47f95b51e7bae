"""Maps of weight space: points, neighbours, clusters, directions, walks."""
