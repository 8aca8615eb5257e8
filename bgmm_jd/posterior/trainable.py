"""The surrogate with parameters that can be trained further, by TFP and for any target."""

from tensorflow_probability import distributions as tfd

from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.posterior.surrogate_members import surrogate_members
from bgmm_jd.variational.members import joint_distribution
from bgmm_jd.variational.parameters import trainable_parameters


def trainable_surrogate(posterior: Posterior) -> tfd.JointDistributionCoroutine:
    """Return the surrogate with trainable parameters, starting at those of the posterior.

    The joint distribution is that of `posterior.surrogate`, and is meant to be trained for a target
    of your own::

        surrogate = bgmm_jd.trainable_surrogate(posterior)
        losses = tfp.vi.fit_surrogate_posterior(
            target, surrogate, optimizer=tf_keras.optimizers.Adam(0.01), num_steps=100
        )

    `target` receives the variables in the order of the prior, each [sample_size, ...] in the units
    of X, and returns log densities [sample_size].

    Parameters
    ----------
    posterior : Posterior
        It does not change when the surrogate is trained.

    Returns
    -------
    tfd.JointDistributionCoroutine
        With the prior's names, order and shapes, in the units of X and the dtype of the fit. Its
        `trainable_variables` are new at each call, unconstrained (of a positive parameter, its
        log), and named after variable and parameter, such as `means_loc`. A variable that the prior
        fixes has none.

    Notes
    -----
    The parameters are those of `posterior.parameters`, with two exceptions: a Gamma distribution is
    trained in `concentration` and `mean`, and a Wishart distribution in `excess`, its degrees of
    freedom less D - 1, and `mean_tril`, the lower Cholesky factor of its mean. Their Fisher
    information is block diagonal, so that a step in one does not spoil the other.
    """
    members = [
        one._replace(parameters=trainable_parameters(one.family, one.parameters, one.name))
        for one in surrogate_members(posterior.approximation)
    ]
    surrogate = joint_distribution(members)
    # The coroutine hides the variables: an attribute lets `tf.Module` find them, as in TFP's own
    # surrogates.
    surrogate.also_track = [one.parameters for one in members]
    return surrogate
