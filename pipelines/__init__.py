"""The DAGs, one file each, and what runs or compiles them. The library never imports this package."""
