"""Recommends with a trained run: the same as `seasonrec recommend`."""

import sys

from seasonrec.experiments.cli import main

if __name__ == "__main__":
    main(["recommend", *sys.argv[1:]])
