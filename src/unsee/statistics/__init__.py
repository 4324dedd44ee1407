"""What neurons and weights do for whom: neuron importance (Eq. 6-7) and Fisher information (Eq. 9-10)."""
