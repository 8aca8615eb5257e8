"""From a start to an optimum of the elbo: minibatch steps, full-data passes and restarts."""
