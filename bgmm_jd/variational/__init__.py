"""The surrogate built from the prior's structure, and the log joint density it is fitted to."""
