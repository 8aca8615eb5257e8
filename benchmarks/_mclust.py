"""Maximum likelihood by R's mclust, where R and that package are installed."""

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

# The forms of covariance in mclust's names.
MODELS = {"full": "VVV", "diag": "VVI", "tied": "EEE", "spherical": "VII"}
SCRIPT = """
suppressMessages(library(mclust))
given <- commandArgs(trailingOnly = TRUE)
X <- as.matrix(read.csv(given[1], header = FALSE))
seconds <- system.time(
  found <- Mclust(X, G = as.integer(given[2]), modelNames = given[3], verbose = FALSE)
)["elapsed"]
cat(seconds, found$classification)
"""


@functools.cache
def mclust_is_installed() -> bool:
    """Return whether R has mclust."""
    if shutil.which("Rscript") is None:
        return False
    return subprocess.run(["Rscript", "-e", "library(mclust)"], capture_output=True).returncode == 0


def labels_by_mclust(X: np.ndarray, K: int, form: str) -> tuple[np.ndarray | None, float]:
    """Return the label of each row of X [N, D], and the seconds of the fit alone.

    None instead of labels where mclust finds no estimate, as with a singular covariance matrix.
    """
    with tempfile.TemporaryDirectory() as folder:
        rows, script = Path(folder, "rows.csv"), Path(folder, "fit.R")
        np.savetxt(rows, X, delimiter=",")
        script.write_text(SCRIPT)
        command = ["Rscript", script, rows, str(K), MODELS[form]]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, *labels = done.stdout.split()
    return (np.array(labels, int) if labels else None), float(seconds)
