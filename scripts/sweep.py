"""Searches for the best config of the joint model: the same as `seasonrec sweep`."""

import sys

from seasonrec.experiments.cli import main

if __name__ == "__main__":
    main(["sweep", *sys.argv[1:]])
