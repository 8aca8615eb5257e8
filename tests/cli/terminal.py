"""Commands run in this process."""

import contextlib
import io
from typing import NamedTuple

from bgmm_jd.cli.commands import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def run(*argv, main=main):
    with contextlib.redirect_stdout(io.StringIO()) as out:  # noqa: SIM117
        with contextlib.redirect_stderr(io.StringIO()) as err:
            code = main([str(argument) for argument in argv])
    return Outcome(code, out.getvalue(), err.getvalue())
