"""The dependence between parameters that a mean-field surrogate lacks, and importance weights."""
