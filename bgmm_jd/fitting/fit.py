"""`fit`: from rows to a posterior.

Validate the input, optimise from several starts, calibrate, and return a `Posterior` with its
diagnosis.
"""

import os
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Literal, get_args

from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.execution import Execution
from bgmm_jd.backend.interrupts import held_interrupts
from bgmm_jd.backend.memory_maps import within_memory_maps
from bgmm_jd.backend.process_state import CALLER, runs_tensorflow
from bgmm_jd.data.ties import warn_of_ties
from bgmm_jd.data.validation import (
    MissingOption,
    as_count,
    as_missing_flag,
    as_rows,
    as_seed,
    check_rows,
)
from bgmm_jd.fitting.assess import Assessment, assess
from bgmm_jd.fitting.checkpoint import named_in_errors, open_checkpoint
from bgmm_jd.fitting.default_prior import prior_in_data_units
from bgmm_jd.fitting.fit_arguments import (
    as_batch_size,
    as_choice,
    as_execution,
    as_given,
    as_restarts,
    as_settings,
)
from bgmm_jd.fitting.given_rows import (
    as_source,
    names_of,
    reader_of,
    rows_of_array,
    rows_of_source,
    standardize_rows,
    with_enough_digits,
    without_source,
)
from bgmm_jd.fitting.identity import identity_of
from bgmm_jd.fitting.initial_values import initial_values
from bgmm_jd.fitting.progress import Progress, as_callback
from bgmm_jd.fitting.progress_display import reporter
from bgmm_jd.fitting.provenance import provenance_of
from bgmm_jd.fitting.search import (
    SearchPlan,
    SearchResult,
    find_optimum,
    modes_in_data_units,
    output_order,
    problem_of,
    with_data_unit_elbos,
)
from bgmm_jd.fitting.search_arguments import arguments_of_search
from bgmm_jd.fitting.search_state import SearchLog
from bgmm_jd.fitting.source_options import check_init_of_source, check_options_of_source
from bgmm_jd.fitting.verdict import with_verdict
from bgmm_jd.model.covariance_forms import (
    CovarianceForm,
    check_covariance,
    scale_variable,
    units_of_rows,
)
from bgmm_jd.model.prior_checks import prior_covariance_form
from bgmm_jd.optimization.optimizers import OPTIMIZERS, Optimizer
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.posterior.provenance import Provenance
from bgmm_jd.settings import Settings
from bgmm_jd.sources.executors import check_executor
from bgmm_jd.storage.files import as_path
from bgmm_jd.variational.approximation import Approximation

Finish = Literal["auto", "hmc", "none"]
FINISHES: tuple[Finish, ...] = get_args(Finish)


@runs_tensorflow
def fit(
    X: Any,
    K: int,
    *,
    covariance: CovarianceForm = "diag",
    prior: tfd.JointDistributionCoroutine | None = None,
    sample_weight: Any = None,
    batch_size: int | Literal["auto"] = "auto",
    seed: int = 0,
    progress: bool | None = None,
    callback: Callable[[Progress], None] | None = None,
    execution: Execution = "xla",
    init: Any = None,
    start: Posterior | None = None,
    restarts: int | None = None,
    max_steps: int = 20_000,
    calibrate: bool = True,
    missing: MissingOption | None = None,
    optimizer: Optimizer = "natural",
    finish: Finish = "auto",
    checkpoint: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
    settings: Settings | None = None,
) -> Posterior:
    """Fit a Bayesian Gaussian mixture by stochastic variational inference.

    Parameters
    ----------
    X : array-like, data frame or source of rows [N, D], of finite real numbers
        float32 and float64 are kept, and are the dtype of the fit; anything else is converted, and
        so are up to 2^22 numbers in float32 where the weights of the rows add up to more than 2^23
        (8 million). Of a data frame
        (pandas, polars or a pyarrow table) the names of the columns are kept as
        `posterior.feature_names`, and later frames are put in their order. Rows that do not fit in
        memory come from `bgmm_jd.table` or `bgmm_jd.batches`, or are a `np.memmap`: a sample is
        read for the first phase, and all rows are read in each pass; see the guide.
    K : int
        Number of components, at most N.
    covariance : {"diag", "full", "tied", "spherical"}
        The form of the components' covariances: a variance for each feature, a matrix for each
        component, one matrix for all components, one variance for each component.
    prior : tfd.JointDistributionCoroutine, optional
        In the units of X, with variables `weights` [K], `means` [K, D] and one of `precisions`
        and `scales`, whose shape determines the form of the covariance: [K, D], [K, D, D] (full),
        [D, D] (tied) or [K, 1] (spherical); where two forms have that shape, its values decide.
        `precisions` are inverse variances or matrices, `scales` standard deviations or the lower
        Cholesky factors of covariance matrices. Without it, weakly informative values in the
        data's own units (`bgmm_jd.default_prior`), and columns in which all entries are equal are
        not read: they enter neither the elbo nor densities.
    sample_weight : array-like [N], optional
        The power of each row's likelihood, zero or more: 2 counts a row twice, 0 leaves it out. In
        the order of the rows; the index of a pandas Series is not read. Of a source, better a
        column of its own: `bgmm_jd.table(where, weight=...)`.
    batch_size : int or "auto"
        The largest number of rows that a step of the minibatch loop reads, from 1 to N. "auto"
        reads all rows in every step up to max(4,096, 200 K) rows, and up to 20,000 if N K D is at
        most 262,144. With more than eight components it also does so up to the smaller of 40 K D
        and 20,000 rows.
        Larger data sets are fitted in two phases: a weighted subsample of a few thousand rows, then
        12 to 22 accelerated passes over all rows on the measured data sets; the parameters of 12 to
        64 further passes are averaged.
    seed : int
        The same seed, machine and versions give the same result.
    progress : bool, optional
        Whether to show progress on standard error: a bar on a terminal and in a notebook that has
        ipywidgets, and a line for each phase elsewhere. By default only on a terminal.
    callback : callable, optional
        Called as `callback(progress)` with a `bgmm_jd.Progress` when a phase begins, whenever the
        convergence of the steps is checked, and after each pass over all of many rows.
        `KeyboardInterrupt` raised in it ends the fit as Ctrl-C does; any other exception ends it
        without a result.
    execution : {"xla", "graph", "eager"}
        How the loop runs. All three follow the same path to float tolerance; "eager" is for
        inspecting it with a debugger.
    init : array-like, data frame or Posterior, optional
        What to start from, whose order of the components is kept:

        - means [K, D], in the units of X;
        - labels [N], an integer from 0 to K - 1 for each row;
        - probabilities [N, K] of the components for each row. Where N = K = D, these are means;
        - a posterior with as many components and features, the same form of covariance and a prior
          of the same variables and families, of the same rows or of others.

        Without it, the best optima of variational EM from many starts, on at most 4,096 rows (more
        with more than eight components), or, under a stick-breaking prior, clusters of k-means;
        components are then in ascending order of the feature that separates them best, or of their
        variances or weights if no feature's means do.
    start : Posterior, optional
        An earlier fit to go on from, after rows were added or under another prior: what `init`
        takes as a posterior, but already near the optimum. There is one run, and no search for
        starts. Of many rows no subsample is fitted first, as it is with `init`: passes over all
        rows begin at once. It takes the place of `init` and of `restarts`. Where the rows are no
        longer like those of the earlier fit, clusters that are new are not looked for; fit without
        it then.
    restarts : int, optional
        Largest number of optimiser runs, of which the one with the best elbo is kept; a later one
        ends where an earlier one has converged. There is one run for each distinct optimum of
        variational EM that may be the best. With `init` or a stick-breaking prior, exactly so many
        runs. By default 4, but 1 with `init` or a `batch_size` below N, and always with `start`.
    max_steps : int
        Maximum number of optimiser steps per start, rounded up to whole epochs. The number of
        full-data passes is limited to max(200, max_steps // 100).
    calibrate : bool
        Whether to recover the dependence between parameters that the mean-field surrogate lacks.
        Draws then come from the calibrated posterior; without it, from the surrogate. With more
        than 500 parameters, or very many rows, a cheaper form is used, and none beyond 3,000: see
        `posterior.calibration`.
    missing : {None, "marginalize"}
        The meaning of NaN and null in X: an error, or a missing entry, which is integrated out of
        the likelihood exactly, assuming that values are missing at random. `bgmm_jd.impute` fills
        them in.
    optimizer : {"natural", "adam"}
        The natural gradient of the surrogate, or Adam, which takes many more steps.
    finish : {"auto", "hmc", "none"}
        What follows calibration. "auto" looks for all modes of the posterior, makes draws from the
        whole of it, and estimates the log evidence, where the numbers of parameters and rows
        permit: see `posterior.method`. Where importance weights are poor (k-hat above 0.5), and
        some 50,000 gradients are affordable, the draws come from Markov chains of Hamiltonian Monte
        Carlo. "hmc" runs such chains in any case; `calibrate=False` contradicts it. "none" ends
        with the calibrated posterior at the best optimum.
    checkpoint : str or os.PathLike, optional
        An npz file in which the state of the search is kept: it is written when the starts are
        known, after the run from each of them, and after each pass over all of many rows. A fit
        that was killed or interrupted goes on from there when the call is repeated, and ends with
        the same bits as without the interruption, on the same machine with the same versions. The
        file is kept at the end: a later call with another `finish` or `calibrate` does the rest of
        the fit only. It holds no rows. It is refused for another X, `sample_weight`, K,
        `covariance`, `prior`, `init`, `start`, `seed`, version or any other argument on which the
        search depends.
    executor : concurrent.futures.Executor, optional
        Reads the rows of a source and adds up their likelihoods, in each pass, by several workers:
        Dask's `client.get_executor()`, a process pool, or another. Their number does not change
        the result. A process pool needs `mp_context=multiprocessing.get_context("spawn")`: one
        that was forked from a process in which TensorFlow runs may wait for ever.
    settings : bgmm_jd.Settings, optional
        The numbers that steer the fit, such as tolerances and memory budgets; by default those of
        `Settings()`.

    Returns
    -------
    Posterior

    Raises
    ------
    ValueError, TypeError
        For bad input, before compiling; also for a damaged `checkpoint`, or one of another fit.
    OSError
        If the `checkpoint` cannot be read or written.
    RuntimeError
        In a forked process, or inside of a `tf.function`.
    TimeoutError, concurrent.futures.BrokenExecutor, or an error of the engine's own
        If the workers of the `executor` are lost. Errors during the search have a note that names
        the `checkpoint`.

    Warns
    -----
    StatusWarning, a RuntimeWarning
        If the fit ended with a status that is not good (`posterior.status.good`), which any but
        CONVERGED and SEVERAL_MODES is not; `posterior.status` has advice.
    FarRowsWarning, a UserWarning
        If rows are more than 100 standard deviations from all others: they may be codes.
    FewValuesWarning, a UserWarning
        If a column has only 2 to 12 distinct values, each in 10 rows on average: a component may
        sit on equal values, where its density says nothing of the data.
    MemoryMapsWarning, a RuntimeWarning
        If XLA could end the process, because of what it has compiled before: the fit runs as with
        `execution="graph"`.

    Notes
    -----
    Ctrl-C ends the fit and keeps what it has reached, with `Status.INTERRUPTED`. It is raised as
    usual while the fit looks for starts, when there is nothing to keep.

    The logger `bgmm_jd` has a record at the level INFO for each phase and for the end of each run.
    """
    provenance = provenance_of(fit, locals())  # before any name is bound again
    settings = as_settings(settings)
    allow_missing = as_missing_flag(missing)
    source = as_source(X, settings)
    names = names_of(X, source)
    if source is None:
        X = as_rows(X, missing=allow_missing)
    D = X.shape[1] if source is None else source.features
    K, seed, max_steps = as_count(K, "K"), as_seed(seed), as_count(max_steps, "max_steps")
    check_covariance(covariance)
    form = covariance if prior is None else prior_covariance_form(prior, K, D, covariance)
    optimizer = as_choice(optimizer, "optimizer", OPTIMIZERS)
    execution = within_memory_maps(as_execution(execution), stacklevel=CALLER)
    finish = as_choice(finish, "finish", FINISHES)
    callback = as_callback(callback)
    if finish == "hmc" and not calibrate:
        raise ValueError(
            "finish='hmc' draws from the posterior, and calibrate=False asks for draws of the "
            "surrogate; got both. Leave one of them out."
        )
    check_executor(executor, source)
    if source is None:
        rows = rows_of_array(X, sample_weight)
    else:
        check_options_of_source(batch_size, finish)
        reader = reader_of(source, sample_weight, settings, executor)
        rows = rows_of_source(reader, K, allow_missing, seed, settings)
    check_rows(rows.count, K, rows.weight is not None)
    rows = with_enough_digits(rows, settings.full_data)
    given = as_given(init, start, restarts, rows.shape, K, form, names)
    check_init_of_source(given, rows)
    plan = SearchPlan(
        batch_size=as_batch_size(batch_size, rows, K, settings),
        restarts=as_restarts(
            restarts, batch_size, rows.count, given is not None, settings.optimization
        ),
        init=None,
        is_near=start is not None,
        max_steps=max_steps,
        optimizer=optimizer,
        seed=seed,
    )
    if K > 1:
        warn_of_ties(rows.values, names, stacklevel=CALLER)
    variable = "precisions" if prior is None else scale_variable(prior.dtype._asdict())
    data = standardize_rows(
        rows,
        units_of_rows(form, variable, complete=not allow_missing),
        names,
        read_constant_columns=prior is not None,
        settings=settings.robust_moments,
        stacklevel=CALLER,
    )
    problem = problem_of(data, K, form, prior, execution, settings)
    if given is not None:
        name = "init" if start is None else "start"
        plan = replace(plan, init=initial_values(given, problem, rows.places, name))
    log = SearchLog()
    if checkpoint is not None:
        of_fit = identity_of(arguments_of_search(rows, prior, missing, problem, plan))
        log = open_checkpoint(as_path(checkpoint, "checkpoint"), of_fit)
    with reporter(progress, callback, K, form) as report, named_in_errors(checkpoint):
        found = find_optimum(problem, plan, report, log)
        params = found.best.params
        order = output_order(problem, params, has_init=plan.init is not None)
        approximation, assessment = assess(
            Approximation(problem=problem, params=params, order=order),
            found,
            plan,
            finish if calibrate else None,
            report,
        )
    with held_interrupts() as is_interrupted:
        if prior is None:
            prior = prior_in_data_units(data, K, form, settings.default_prior)
        posterior = _posterior(prior, missing, names, approximation, found, assessment, provenance)
        return without_source(with_verdict(posterior, found, assessment.whole, is_interrupted))


def _posterior(
    prior: tfd.JointDistributionCoroutine,
    missing: str | None,
    feature_names: tuple[str, ...] | None,
    approximation: Approximation,
    found: SearchResult,
    assessment: Assessment,
    provenance: Provenance,
) -> Posterior:
    """Collect the results of a fit, with elbos in the units of X."""
    problem = approximation.problem
    jacobian = problem.data.log_det_jacobian
    trace = found.best.elbos - jacobian
    trace.setflags(write=False)
    return Posterior(
        prior=prior,
        K=problem.model.K,
        D=problem.data.shape[1],
        covariance=problem.model.covariance,
        missing=missing,
        elbo=assessment.elbo - jacobian,
        elbo_se=assessment.elbo_se,
        log_evidence=assessment.evidence.log - jacobian,
        log_evidence_se=assessment.evidence.se,
        khat=assessment.khat,
        elbo_trace=trace,
        status=assessment.status,
        batch_size=found.batch_size,
        restarts=with_data_unit_elbos(problem, found.restarts),
        modes=modes_in_data_units(problem, assessment.modes),
        seconds=MappingProxyType({"search": found.seconds, **assessment.seconds}),
        feature_names=feature_names,
        provenance=provenance,
        approximation=approximation,
    )
