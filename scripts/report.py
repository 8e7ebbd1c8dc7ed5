"""One table from any set of runs: the same as `seasonrec report`."""

import sys

from seasonrec.experiments.cli import main

if __name__ == "__main__":
    main(["report", *sys.argv[1:]])
