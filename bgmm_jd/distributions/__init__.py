"""Distributions whose draws and densities stay right for the posterior of a large data set."""
