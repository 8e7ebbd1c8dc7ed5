"""Trains variants of the model and says what each of its parts is worth: the same as `seasonrec ablate`."""

import sys

from seasonrec.experiments.cli import main

if __name__ == "__main__":
    main(["ablate", *sys.argv[1:]])
