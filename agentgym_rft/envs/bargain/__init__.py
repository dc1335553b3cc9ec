"""Two agents divide items that each values differently."""
