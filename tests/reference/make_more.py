"""More reference posteriors, of other sizes and degrees of overlap than those of make_reference.py.

Run once, kept with its results:  python make_more.py [NAME ...]
Needs what make_reference.py needs, whose model and sampler it uses. Rows are drawn around the
means below with the sds below; chains start at those means.
"""

import json
import sys

import numpy as np
import numpyro
from make_reference import HERE, reference

# name: (seed, rows, weights, means, sds); standard units, so that the published prior suits.
CASES = {
    "line_overlap": (1, 600, [0.6, 0.4], [[-1.0], [1.0]], [[0.7], [0.6]]),
    "line_three": (2, 1200, [0.3, 0.4, 0.3], [[-2.0], [0.0], [2.0]], [[0.6], [0.5], [0.6]]),
    "plane_four": (
        3,
        1500,
        [0.25, 0.25, 0.25, 0.25],
        [[-1.6, -1.4], [-1.2, 1.4], [1.4, -1.2], [1.5, 1.5]],
        [[0.8, 0.7], [0.7, 0.9], [0.8, 0.8], [0.9, 0.7]],
    ),
    "space_three": (
        4,
        1000,
        [0.5, 0.3, 0.2],
        [[-0.9, 0.2, 0.5], [0.9, -0.6, 0.1], [0.3, 1.3, -0.9]],
        [[0.9, 0.8, 1.0], [0.8, 0.9, 0.7], [0.7, 0.8, 0.9]],
    ),
    "five_features": (
        5,
        800,
        [0.55, 0.45],
        [[-0.6, 0.5, 0.0, 0.4, -0.3], [0.6, -0.5, 0.2, -0.4, 0.5]],
        [[0.9, 1.0, 0.8, 1.1, 0.9], [1.0, 0.8, 1.1, 0.9, 0.8]],
    ),
}


def rows(name):
    seed, N, weights, means, sds = CASES[name]
    rng = np.random.default_rng(seed)
    label = rng.choice(len(weights), N, p=weights)
    return rng.normal(np.array(means)[label], np.array(sds)[label]).astype("float32"), means


if __name__ == "__main__":
    for name in sys.argv[1:] or CASES:
        X, start = rows(name)
        settings = {"K": len(start), "covariance": "diag", "mean_scale": 1.0}
        np.savetxt(HERE / f"{name}.csv", X, delimiter=",", fmt="%.9g")
        result = {
            "name": name,
            "rows": len(X),
            "settings": settings,
            "data": f"{name}.csv",
            "dtype": "float32",
            "sampler": f"numpyro {numpyro.__version__} NUTS, float64, 4 chains x 5000 draws",
            "posterior": reference(X, start, settings),
        }
        (HERE / f"{name}.json").write_text(json.dumps(result, indent=1))
        print(name, "written", flush=True)
