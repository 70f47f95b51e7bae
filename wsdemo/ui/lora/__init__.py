"""Tab LoRA evaluator."""
