"""How far to trust a fit, as one word and a sentence of advice."""

import enum


class Status(enum.Enum):
    """What became of a fit; `str(status)` says what to do about it."""

    CONVERGED = "The parameters have settled to within a few per cent of their posterior sds."
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

    @property
    def good(self) -> bool:
        """Whether the fit needs no attention."""
        return self is Status.CONVERGED

    def __str__(self) -> str:
        return f"{self.name.lower().replace('_', ' ')}: {self.value}"
