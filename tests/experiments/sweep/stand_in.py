"""A program that takes the words of `seasonrec train` and leaves what a trial leaves, without training.

Its selection metric is 1 - (loss.weights.seasonal - 1/2)^2. CALLS names a file that gets a line per call, SLOW the seconds
that a trial takes, HANGS a trial that takes a minute, DIES a file: whoever finds it removes it and kills itself. FAILS lets every
trial fail.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path


def main() -> None:
    words = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
    folder, seasonal = Path(words["hydra.run.dir"].strip("'")), float(words["loss.weights.seasonal"])
    folder.mkdir(parents=True, exist_ok=True)
    with Path(os.environ["CALLS"]).open("a") as file:
        file.write(f"{folder.name} {seasonal} {os.getpid()}\n")
    if (dies := Path(os.environ.get("DIES", "-"))).exists():
        dies.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60 if os.environ.get("HANGS") == folder.name else float(os.environ.get("SLOW", 0)))
    if "FAILS" in os.environ:
        sys.exit("error: the shop is closed")
    facts = {"selection": 1 - (seasonal - 0.5) ** 2}
    (folder / "run.json").write_text(json.dumps({"status": os.environ.get("STATUS", "finished"), "facts": facts}))
    rows = [("joint", split, "all", "ndcg@10", 10, value, "", "", 5) for split, value in (("validation", seasonal), ("test", 9))]
    lines = ["method,split,slice,metric,k,value,low,high,n_queries", *(",".join(map(str, row)) for row in rows)]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    threading.Thread(target=lambda: (os.read(0, 1), os._exit(3)), daemon=True).start()
    main()
