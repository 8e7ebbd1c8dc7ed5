"""Trains the joint model: the same as `seasonrec train`."""

import sys

from seasonrec.experiments.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
