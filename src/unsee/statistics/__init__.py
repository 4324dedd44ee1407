"""What the vanilla model's neurons and weights do for whom: neuron importance (Eq. 6-7), Fisher information (Eq. 9-10)."""
