"""How far to trust a fit, as one word and a sentence of advice."""

import enum


class Status(enum.Enum):
    """What became of a fit; `str(status)` says what it means and what to do about it."""

    CONVERGED = "The parameters have settled, and nothing speaks against the draws."
    STEP_LIMIT = (
        "The parameters were still moving when the limit of steps was reached. "
        "Allow more with max_steps=, or use a larger batch_size."
    )
    INTERRUPTED = (
        "The fit was interrupted; this is what it had reached. Fit again to let it settle."
    )
    DIVERGED = (
        "The parameters left the range of their dtype; this is what was reached before. "
        "Pass X in float64, remove extreme rows, or use a tighter prior."
    )
    SEVERAL_MODES = (
        "Restarts settled in different solutions of similar evidence: the posterior has several "
        "modes, and the draws show only the best of them. Try a smaller K or a tighter prior, and "
        "look at to_inference_data(..., chains='restarts')."
    )
    RESTARTS_DISAGREE = (
        "Only one of the restarts reached the best solution; there may be a better one. "
        "Use more with restarts=, or a smaller K."
    )
    KHAT_TOO_HIGH = (
        "The posterior differs too much from the approximation (k-hat above 0.7): intervals may be "
        "wrong. Try a smaller K or a tighter prior, or sample with MCMC."
    )
    COMPONENT_EMPTY = (
        "At least one component holds less than one row: its parameters show the prior. "
        "Use a smaller K."
    )

    @property
    def good(self) -> bool:
        """Whether the fit needs no attention."""
        return self is Status.CONVERGED

    def __str__(self) -> str:
        return f"{self.name.lower().replace('_', ' ')}: {self.value}"
