"""How well a model answers: scoring of options, generation, parsing, and metrics with intervals over people."""
