"""Save a posterior to a file, load it again, and pickle it."""
