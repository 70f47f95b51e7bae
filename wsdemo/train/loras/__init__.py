"""The family of LoRAs of SmolLM2-135M as people publish them: texts, recipes, builder."""
