"""The command line: `bgmm-jd`, and `python -m bgmm_jd`."""
