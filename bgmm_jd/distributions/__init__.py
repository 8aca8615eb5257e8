"""Distributions whose draws and densities stay accurate for the posterior of a large data set."""
