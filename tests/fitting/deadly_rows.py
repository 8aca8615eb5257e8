"""Rows that kill processes that read them."""

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

from bgmm_jd.data.source import Source


@dataclass(frozen=True, repr=False)
class DeadlyRows(Source):
    """The rows of another source, from which some processes die.

    So many do as `deaths` says: the first to begin a part when a file `armed` is in the folder.
    Each leaves a file with its number there.
    """

    source: Source
    folder: Path
    deaths: int

    @property
    def layout(self):
        return self.source.layout

    def part(self, first, last):
        return replace(self, source=self.source.part(first, last))

    def blocks(self):
        if (self.folder / "armed").exists():
            for death in range(self.deaths):
                self.die_unless_another_has(self.folder / f"death {death}")
        yield from self.source.blocks()

    def die_unless_another_has(self, path):
        try:
            with open(path, "x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    def arm(self):
        (self.folder / "armed").touch()

    def killed(self):
        """Return the numbers of the processes that have died."""
        return {int(path.read_text()) for path in self.folder.glob("death *")}
