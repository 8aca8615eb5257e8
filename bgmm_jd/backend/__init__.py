"""How TensorFlow is run: random numbers, execution, compilation cache, start-up log, process."""
