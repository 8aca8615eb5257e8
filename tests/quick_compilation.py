"""Options by which XLA compiles in less time, for programs that run once or twice.

Most of the time of a test is compilation. Without LLVM's optimisations and XLA's newer emitter of
fusions a fit of 40 rows takes 8.3 instead of 12.4 s of CPU time, and has the same elbo to all
digits. XLA reads the variable when it first compiles.
"""

import os

import tensorflow as tf

# XLA ends the process at an option that it does not know, and TensorFlow 2.18 does not know the
# first one and gains nothing by the other: these are the versions with which both were tried.
VERSIONS = ("2.21.",)
OPTIONS = "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0"


def options() -> str:
    """Return the options for this version of TensorFlow, which are none for most."""
    return OPTIONS if tf.__version__.startswith(VERSIONS) else ""


def compile_quickly() -> None:
    """Set the options for this process and its children, unless `XLA_FLAGS` is set already.

    `XLA_FLAGS= python -m pytest` compiles as users do, and so does .ci/run for the contract with
    the newest versions.
    """
    os.environ.setdefault("XLA_FLAGS", options())


if __name__ == "__main__":  # for the shell
    print(options())
