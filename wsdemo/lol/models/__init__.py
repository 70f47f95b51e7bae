"""The models that read LoRAs, and how one is trained."""
