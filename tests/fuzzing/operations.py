"""What is done with the posterior of a case, by every public function, and what must hold."""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

import bgmm_jd

DRAWS = 20


def check_finite(name: str, values: Any) -> None:
    """Raise AssertionError if numbers are not finite."""
    array = np.asarray(values)
    assert np.isfinite(array).all(), f"{name} has {array[~np.isfinite(array)][0]}"


def sample(posterior: bgmm_jd.Posterior, X: Any) -> None:
    for calibrate in (None, False):
        for name, values in posterior.sample(DRAWS, calibrate=calibrate).items():
            check_finite(f"sample {name}", values)


def summary(posterior: bgmm_jd.Posterior, X: Any) -> None:
    check_finite("summary", posterior.summary(draws=DRAWS).to_numpy())


def predict(posterior: bgmm_jd.Posterior, X: Any) -> None:
    probabilities = bgmm_jd.predict_proba(posterior, X, draws=DRAWS)
    check_finite("predict_proba", probabilities)
    # K of at most 8 numbers are rounded to the dtype of the fit before they are added.
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=8 * np.finfo(np.float32).eps)
    labels = bgmm_jd.predict(posterior, X, draws=DRAWS)
    assert ((labels >= 0) & (labels < posterior.K)).all(), "predict has another label"


def log_density(posterior: bgmm_jd.Posterior, X: Any) -> None:
    check_finite("log_density", bgmm_jd.log_density(posterior, X, draws=DRAWS))


def sample_predictive(posterior: bgmm_jd.Posterior, X: Any) -> None:
    check_finite("sample_predictive", bgmm_jd.sample_predictive(posterior, DRAWS))


def impute(posterior: bgmm_jd.Posterior, X: Any) -> None:
    check_finite("impute", bgmm_jd.impute(posterior, X, draws=3))


def marginal(posterior: bgmm_jd.Posterior, X: Any) -> None:
    found = bgmm_jd.marginal(posterior, [0], draws=DRAWS)
    check_finite("marginal mean", found.mean())
    check_finite("marginal interval", found.interval(0.9))


def conditional(posterior: bgmm_jd.Posterior, X: Any) -> None:
    given = float(np.nan_to_num(np.asarray(X)[0, 0], posinf=0.0))
    found = bgmm_jd.conditional(posterior, {0: given}, draws=DRAWS)
    check_finite("conditional mean", found.mean())
    check_finite("conditional sd", found.sd())
    check_finite("conditional quantile", found.quantile(0.5))


def compare(posterior: bgmm_jd.Posterior, X: Any) -> None:
    """`elpd_loo` is NaN, as documented, for fractional weights and where few draws have all weight.

    It is then NaN in all columns of leave-one-out, and never infinite.
    """
    table = bgmm_jd.compare({"fit": posterior}, draws=100)
    found = table[["elpd_loo", "se", "p_loo"]].to_numpy(float)
    assert np.isfinite(found).all() or np.isnan(found).all(), f"compare has {found}"


def export(posterior: bgmm_jd.Posterior, X: Any) -> None:
    idata = bgmm_jd.to_inference_data(posterior, X, draws=DRAWS)
    for name in ("weights", "means", "sds"):
        check_finite(f"InferenceData {name}", idata["posterior"][name])
    check_finite("InferenceData log_likelihood", idata["log_likelihood"]["x"])


def occupied(posterior: bgmm_jd.Posterior, X: Any) -> None:
    found = bgmm_jd.occupied_components(posterior, draws=DRAWS)
    check_finite("occupied_components", found)


def relabel(posterior: bgmm_jd.Posterior, X: Any) -> None:
    found = bgmm_jd.relabel(posterior, "weights")
    assert (np.diff(found.sample(DRAWS)["weights"].mean(axis=0)) < 0.5).all()
    names = [f"<{number}>" for number in range(posterior.K)]
    assert bgmm_jd.relabel(posterior, names=names).component_names == tuple(names)


def save_and_load(posterior: bgmm_jd.Posterior, X: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fit 1#?.nc"
        for keep_rows in (True, False):
            bgmm_jd.save(posterior, path, keep_rows=keep_rows)
            found = bgmm_jd.load(path, _own_prior(posterior))
            assert found.sample(DRAWS).keys() == posterior.sample(DRAWS).keys()
        assert os.listdir(folder) == [path.name]


def _own_prior(posterior: bgmm_jd.Posterior) -> Any:
    """Return the prior if a file cannot have it: those of the library know their arguments."""
    return None if hasattr(posterior.prior.model, "arguments") else posterior.prior


def surrogate(posterior: bgmm_jd.Posterior, X: Any) -> None:
    for variable, parameters in posterior.parameters.items():
        for name, values in parameters.items():
            check_finite(f"parameters {variable} {name}", values)
    assert bgmm_jd.trainable_surrogate(posterior).trainable_variables


def describe(posterior: bgmm_jd.Posterior, X: Any) -> None:
    assert repr(posterior)
    assert posterior.evidence_bound > -np.inf


def plots(posterior: bgmm_jd.Posterior, X: Any) -> None:
    try:
        bgmm_jd.plot_components(posterior, draws=DRAWS)
        bgmm_jd.plot_elbo(posterior)
        bgmm_jd.plot_density(posterior, X, draws=DRAWS)
        bgmm_jd.plot_classification(posterior, X, draws=DRAWS)
        plt.gcf().canvas.draw()
    finally:
        plt.close("all")


def report(posterior: bgmm_jd.Posterior, X: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        text = bgmm_jd.report(posterior, path=Path(folder) / "r.html", draws=100).read_text()
    assert "<html" in text


def update(posterior: bgmm_jd.Posterior, X: Any) -> None:
    found = bgmm_jd.update(posterior, X)
    check_finite("update", found.sample(DRAWS)["means"])


OPERATIONS: Mapping[str, Callable[[bgmm_jd.Posterior, Any], None]] = {
    "sample": sample,
    "summary": summary,
    "predict": predict,
    "log_density": log_density,
    "sample_predictive": sample_predictive,
    "impute": impute,
    "marginal": marginal,
    "conditional": conditional,
    "compare": compare,
    "to_inference_data": export,
    "occupied_components": occupied,
    "relabel": relabel,
    "save, load": save_and_load,
    "surrogate": surrogate,
    "describe": describe,
    "plots": plots,
    "report": report,
    "update": update,
}
# Drawing takes a second: these are tried by the benchmark, and by tests of their own.
SLOW_OPERATIONS = ("plots", "report")
QUICK_OPERATIONS = tuple(name for name in OPERATIONS if name not in SLOW_OPERATIONS)
