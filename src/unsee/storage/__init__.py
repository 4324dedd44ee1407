"""Where artifacts live. `artifact` defines what a complete artifact directory is; object stores come beside it."""
