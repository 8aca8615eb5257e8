"""The command line: `python -m bgmm_jd`."""
