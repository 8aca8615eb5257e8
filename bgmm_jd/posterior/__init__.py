"""The fitted posterior and what is computed from its draws."""
