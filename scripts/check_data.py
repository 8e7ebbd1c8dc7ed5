"""Says what seasonrec sees in a file: the same as `seasonrec check-data`."""

import sys

from seasonrec.experiments.cli import main

if __name__ == "__main__":
    main(["check-data", *sys.argv[1:]])
