"""The recipes that finetune collections of LoRAs and learn to read them."""
