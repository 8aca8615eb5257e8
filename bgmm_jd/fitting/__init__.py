"""From rows to a posterior: the search for the optimum, its assessment, and sweeps over K."""
