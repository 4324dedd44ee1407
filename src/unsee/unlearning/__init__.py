"""Unlearning methods: one file each states its objective; the trainer, the masks and the data are shared."""
