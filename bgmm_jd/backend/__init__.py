"""How TensorFlow is run: random numbers, execution modes, compilation cache, start-up log."""
