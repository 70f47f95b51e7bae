"""Any LoRA file → canonical (U, V) pairs, with a passport of where they came from."""
