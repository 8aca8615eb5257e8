"""The rows of X: validation, standardisation, missing entries, weights and minibatches."""
