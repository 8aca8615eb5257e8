"""How far the search for the optimum has come: a value from which it goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from bgmm_jd.optimization.full_data import PassesState
from bgmm_jd.optimization.initialization import Starts
from bgmm_jd.optimization.single_run import RunResult
from bgmm_jd.optimization.status import Status


class SearchState(NamedTuple):
    """What the search has found so far.

    starts : where the runs begin; None until they are known.
    runs : how those that are complete have ended, in the order of the starts.
    continued : how runs have ended that were continued on all rows, in the order in which they
        were.
    passes : how far the one that is being continued has come; None between them.
    """

    starts: Starts | None = None
    runs: tuple[RunResult, ...] = ()
    continued: tuple[RunResult, ...] = ()
    passes: PassesState | None = None


class SearchLog:
    """The state of a search that is under way, which is kept whenever it changes.

    Parameters
    ----------
    state : to go on from.
    keep : called with each new state.
    """

    def __init__(
        self,
        state: SearchState | None = None,
        keep: Callable[[SearchState], None] = lambda state: None,
    ):
        self.state = state or SearchState()
        self._keep = keep

    def add_run(self, run: RunResult) -> None:
        """Note how the run from the next start has ended, unless Ctrl-C has ended it."""
        if run.status is not Status.INTERRUPTED:
            self.note(runs=(*self.state.runs, run))

    def add_continued(self, run: RunResult) -> None:
        """Note how the next run that is continued on all rows has ended, likewise."""
        if run.status is not Status.INTERRUPTED:
            self.note(continued=(*self.state.continued, run), passes=None)

    def note(self, **changes: Any) -> None:
        """Replace fields of the state."""
        self.state = self.state._replace(**changes)
        self._keep(self.state)
