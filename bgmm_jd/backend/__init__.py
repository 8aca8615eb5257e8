"""How TensorFlow is run: random numbers, execution modes, the compilation cache, its log."""
