"""The Gaussian mixture: priors, covariance forms and the likelihood with labels marginalised."""
