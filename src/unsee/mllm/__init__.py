"""What is asked of: model families, prompts, the packed forward, checkpoints and deltas, the embedded base model."""
