"""Evaluates the baselines of a data set, or a run once more: the same as `seasonrec evaluate`."""

import sys

from seasonrec.experiments.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
