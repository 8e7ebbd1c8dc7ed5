"""Surprise's SVD on given folds: python peer.py EXCHANGE, called by run.py.

Budget: one setting, the library's defaults.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from surprise import SVD, Dataset, Reader

exchange = Path(sys.argv[1])
seed = json.loads((exchange / "config.json").read_text())["seed"]
given = np.load(exchange / "ratings.npz")
user, item, rating, fold = (given[name] for name in ("user", "item", "rating", "fold"))
data = Dataset(Reader(rating_scale=(float(rating.min()), float(rating.max()))))
predicted, seconds = np.zeros(len(rating), np.float32), []
for each in np.unique(fold):
    others, held_out = fold != each, fold == each
    start = time.perf_counter()
    known = [*zip(user[others].tolist(), item[others].tolist(), rating[others].tolist(), [None] * others.sum(), strict=True)]
    model = SVD(random_state=seed).fit(data.construct_trainset(known))
    seconds.append(round(time.perf_counter() - start, 2))
    pairs = zip(user[held_out].tolist(), item[held_out].tolist(), strict=True)
    predicted[held_out] = [model.predict(*pair).est for pair in pairs]
np.save(exchange / "predicted.npy", predicted)
record = {
    "tuning": {"budget": "one setting"},
    "chosen": {"model": "SVD", "factors": model.n_factors, "epochs": model.n_epochs, "lr": model.lr_pu, "l2": model.reg_pu},
    "seconds": {"fit of each fold": seconds},
    "versions": {name: version(name) for name in ("scikit-surprise", "numpy")},
}
(exchange / "peer.json").write_text(json.dumps(record, indent=1))
