"""LoRAs with labels: pairs of factors, signatures, collections, tasks."""
