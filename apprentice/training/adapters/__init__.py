"""Training LoRA adapters: what runs in the worker processes, and what every backend for adapters shares."""
