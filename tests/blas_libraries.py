"""The libraries of linear algebra in the process, by threadpoolctl."""

from threadpoolctl import threadpool_info


def blas_threads():
    """Return the number of threads of each BLAS library in the process."""
    return [found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"]
