"""Puts what is found beside what was published: the same as `seasonrec reproduce`."""

import sys

from seasonrec.experiments.cli import main

if __name__ == "__main__":
    main(["reproduce", *sys.argv[1:]])
