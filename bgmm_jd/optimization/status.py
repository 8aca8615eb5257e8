"""The outcome of a fit, as one word and a sentence of advice."""

import enum


class Status(enum.Enum):
    """The outcome of a fit; `str(status)` explains it and says what to do."""

    CONVERGED = "The parameters have converged, and no check found a reason to distrust the draws."
    STEP_LIMIT = (
        "The parameters were still changing when the limit of steps was reached. "
        "Allow more steps with max_steps=, or use a larger batch_size=."
    )
    INTERRUPTED = (
        "The fit was interrupted; the posterior is what had been reached. "
        "Fit again without an interrupt to let it converge."
    )
    DIVERGED = (
        "The parameters or the elbo left the range of the dtype; the posterior is what had been "
        "reached before. Pass X in float64, remove extreme rows, or use a tighter prior."
    )
    SEVERAL_MODES = (
        "The posterior has several modes, and the draws come from all of them in proportion to "
        "their probability: see posterior.modes, and posterior.at_mode for the draws of one."
    )
    ONE_OF_SEVERAL_MODES = (
        "Runs converged to different solutions of similar evidence: the posterior has several "
        "modes, and the draws represent only the best of them. With finish='none', leave it out; "
        "try a smaller K or a tighter prior; look at to_inference_data(..., chains='restarts')."
    )
    RESTARTS_DISAGREE = (
        "Only one of all starts reached the best solution; there may be a better one. "
        "Fit again with other values of seed=, or use a smaller K."
    )
    KHAT_TOO_HIGH = (
        "The approximation differs too much from the posterior (k-hat above 0.7): intervals may be "
        "wrong. Try finish='hmc', which draws by Markov chains, a smaller K or a tighter prior."
    )
    CHAINS_NOT_MIXED = (
        "The Markov chains have not mixed (R-hat above 1.05, or fewer than 400 effective draws): "
        "intervals may be wrong. Try a smaller K or a tighter prior."
    )
    COMPONENT_EMPTY = (
        "At least one component is expected to hold less than one row: its parameters show only "
        "the prior. Use a smaller K."
    )

    @property
    def good(self) -> bool:
        """Return whether the draws need no attention."""
        return self in (Status.CONVERGED, Status.SEVERAL_MODES)

    def __str__(self) -> str:
        return f"{self.name.lower().replace('_', ' ')}: {self.value}"


class StatusWarning(RuntimeWarning):
    """A fit ended with a status that is not good; the text is that of the status."""
