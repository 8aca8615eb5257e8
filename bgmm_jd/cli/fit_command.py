"""`bgmm-jd fit FILE -k K`."""

import argparse
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

import bgmm_jd
from bgmm_jd.cli.inputs import FILE_HELP, FIT_ENDING, add_reading, read_table, stem_of
from bgmm_jd.cli.messages import errors_of_input, tell
from bgmm_jd.cli.outputs import (
    beside,
    check_figure,
    check_outputs,
    write,
    write_figure,
    write_netcdf,
)
from bgmm_jd.cli.table import BadInput, Table

_DRAWS = 1_000
# Matrices of many features would fill screens; the netCDF file has them.
_SUMMARIZED = ["weights", "means", "sds"]
# Up to this many rows the netCDF file also has the pointwise groups that `az.loo` and `az.plot_ppc`
# need. Their size is draws x rows.
_POINTWISE_ROWS = 5_000

SUMMARY = "fit the rows of a file"
DESCRIPTION = """\
Fit a Gaussian mixture to the columns of numbers in a CSV or parquet file. Ctrl-C ends the fit; its
results up to then are written."""


class Outputs(NamedTuple):
    """The files to which the results are written.

    fit : for other commands; None to leave it out.
    """

    netcdf: Path
    figure: Path
    fit: Path | None

    def check(self, *sources: Path) -> None:
        """Check before the fit that they can be written."""
        check_outputs([path for path in self if path is not None], sources)
        check_figure(self.figure)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("file", metavar="FILE", type=Path, help=FILE_HELP)
    add("-k", dest="K", type=int, required=True, metavar="K", help="number of components")
    add(
        "-o",
        "--out",
        type=Path,
        metavar="OUT.nc",
        help="netCDF file for the draws (default: FILE.nc in the current directory)",
    )
    add("--plot", type=Path, metavar="OUT.png", help="figure (default: as -o, but ending in .png)")
    add(
        "--save",
        type=Path,
        metavar="OUT.fit.nc",
        help="the fit, for predict, report and compare (default: as -o, but ending in .fit.nc)",
    )
    add(
        "--covariance",
        metavar="FORM",
        default="diag",
        help="form of the covariances: diag, full, tied or spherical (default: %(default)s)",
    )
    add_fitting(parser)
    add_reading(parser)


def add_fitting(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that fits."""
    add = parser.add_argument
    add(
        "--batch-size",
        type=int,
        metavar="B",
        help="rows per optimisation step (default: depends on the number of rows)",
    )
    add("--seed", type=int, default=0, help="equal seeds give equal results (default: %(default)s)")
    add(
        "--missing",
        choices=["marginalize"],
        help="integrate missing values out; without it they are an error",
    )
    add(
        "--keep-compiled",
        metavar="DIR",
        help="directory, writable by you alone, that keeps compiled programs for later runs",
    )


def fitting_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options as arguments of `fit`, after the programs are kept where asked for."""
    if arguments.keep_compiled is not None:
        try:
            bgmm_jd.keep_compiled(arguments.keep_compiled)
        except (ValueError, OSError) as error:
            raise BadInput(
                f"cannot keep compiled programs in {arguments.keep_compiled}: {error}"
            ) from None
    options = {"seed": arguments.seed, "missing": arguments.missing}
    if arguments.batch_size is not None:
        options["batch_size"] = arguments.batch_size
    return options


def run(arguments: argparse.Namespace) -> bool:
    """Fit the rows of a file, write the results, and return whether the status is good."""
    file: Path = arguments.file
    netcdf = arguments.out or Path(stem_of(file) + ".nc")
    outputs = Outputs(
        netcdf,
        arguments.plot or beside(netcdf, ".png"),
        arguments.save or beside(netcdf, FIT_ENDING),
    )
    table = read_table(arguments, None, allow_missing=arguments.missing is not None)
    outputs.check(file)
    options = {"covariance": arguments.covariance, **fitting_options(arguments)}
    return fit_table(file.name, table, arguments.K, options, outputs).good


def describe(title: str, table: Table, what: str) -> None:
    """Print what is fitted to what."""
    N, D = table.X.shape
    tell(f"{title}: {N:,} rows x {D} features, {what}")
    tell("features: " + ", ".join(table.columns))


def fit_table(
    title: str, table: Table, K: int, options: dict[str, Any], outputs: Outputs
) -> bgmm_jd.Status:
    """Fit a table, print a summary, write the files, and return the fit's status."""
    describe(title, table, f"K = {K}")
    posterior, seconds = _fit(table.frame, K, options)
    if outputs.fit is not None:  # before anything that can fail or be interrupted
        save_fit(posterior, outputs.fit)
    X = table.X if len(table.X) <= _POINTWISE_ROWS else None
    idata = bgmm_jd.to_inference_data(posterior, X, draws=_DRAWS, seed=options.get("seed", 0))
    import arviz as az  # after to_inference_data, which suppresses arviz 0.23's daily notice

    # For independent draws the diagnostics of Markov chains say nothing.
    kind: Any = "all" if posterior.has_chains else "stats"
    tell(az.summary(idata, var_names=_SUMMARIZED, kind=kind).to_string())
    tell(
        f"elbo {posterior.elbo:,.2f} +/- {posterior.elbo_se:.2f} nats, {posterior.diagnostic}, "
        f"{len(posterior.elbo_trace):,} steps, {seconds:.1f} s with compilation"
    )
    tell(f"How far to trust it: {posterior.status}")
    _write(title, table, posterior, idata, outputs)
    return posterior.status


def _fit(X: pd.DataFrame, K: int, options: dict[str, Any]) -> tuple[bgmm_jd.Posterior, float]:
    start = time.perf_counter()
    with warnings.catch_warnings(), errors_of_input():
        # The status is printed under the summary.
        warnings.simplefilter("ignore", bgmm_jd.StatusWarning)
        posterior = bgmm_jd.fit(X, K, **options)
    return posterior, time.perf_counter() - start


def _write(
    title: str, table: Table, posterior: bgmm_jd.Posterior, idata: Any, outputs: Outputs
) -> None:
    write_netcdf(idata, outputs.netcdf, "draws; read them with arviz.from_netcdf")

    def drawn() -> Any:
        ax = bgmm_jd.plot_density(posterior, table.X)
        ax.set_title(title)
        return ax.figure

    write_figure(drawn, outputs.figure, "data, fitted density and components")


def save_fit(posterior: bgmm_jd.Posterior, path: Path) -> None:
    """Write a fit for the other commands."""
    what = "the fit, for bgmm-jd predict, report and compare, and bgmm_jd.load"
    write(lambda target: bgmm_jd.save(posterior, target), path, what)
