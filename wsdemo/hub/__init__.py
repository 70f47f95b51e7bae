"""LoRAs and predictors from the Hugging Face Hub: the only room that opens sockets."""
