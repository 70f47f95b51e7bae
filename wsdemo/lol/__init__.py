"""Learning on LoRAs (Paper B): models that read adapters, and the predictors made of them."""
