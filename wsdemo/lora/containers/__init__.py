"""What LoRAs come in: safetensors, its shards, a folder, NumPy's .npz (MLX), GGUF (llama.cpp)."""
