"""unsee makes a multimodal LLM forget what a person looks like, and only that."""

__version__ = "0.1.0"
