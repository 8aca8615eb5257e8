"""Posteriors with several modes, overlap or spare components, whose truth is in `hard/`."""

from pathlib import Path

import numpy as np

import bgmm_jd

HARD = Path(__file__).parent / "hard"


def fit_case(case, seed, finish="auto"):
    """Fit a case under its own prior."""
    X = np.reshape(case["data"], (case["N"], case["D"])).astype(np.float32)
    p = case["prior"]
    prior = bgmm_jd.mixture_prior(
        case["K"],
        case["D"],
        mean_loc=p["m"],
        mean_scale=p["s"],
        precision_concentration=p["c"],
        precision_rate=p["r"],
        weight_concentration=p["a"],
    )
    return bgmm_jd.fit(X, case["K"], prior=prior, seed=seed, progress=False, finish=finish)


def invariants(draws):
    """Return the sorted weights and the logs of the largest and the smallest sd: [S, K + 2]."""
    weights = np.sort(draws["weights"], axis=1)[:, ::-1]
    log_sd = -0.5 * np.log(draws["precisions"]).mean(axis=-1)
    return np.column_stack([weights, log_sd.max(axis=1), log_sd.min(axis=1)])
