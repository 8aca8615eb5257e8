"""Run the command line with `python -m bgmm_jd`."""

import sys

from bgmm_jd.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
