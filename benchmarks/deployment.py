"""What lighter text vectors and encoders cost: python benchmarks/deployment.py RUN [--queries 1000]

RUN is the folder of a finished training. Its joint model ranks test queries with the vectors of its encoder in float32, bfloat16 and int8,
each kept in float32, bfloat16 and int8. Only the texts' vectors change: demand shared between near texts, and all that was learnt, stay.

An encoder in int8 has whole numbers from -127 to 127 and a step for each row of its matrices; they are multiplied out when it is loaded,
and products are made in bfloat16. Products of whole numbers need their inputs rounded row by row in each layer: on the processor that
this was tried on (Zen 4), that takes longer than it saves.
"""

import argparse
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from encoding import clock
from numpy.typing import NDArray

from seasonrec.encoders.catalogue import CatalogueTexts
from seasonrec.encoders.compact import NUMBERS, pack, rounded
from seasonrec.encoders.encoder import TextEncoder
from seasonrec.evaluation.evaluate import evaluate, means
from seasonrec.evaluation.labels import season_labels
from seasonrec.evaluation.ranking import rank
from seasonrec.experiments.recommender import Recommender

COLUMNS = (("all", "ndcg@10"), ("new_to_user", "ndcg@10"))
MB = 1e6


def megabytes(vectors: NDArray[np.float32], numbers: str) -> float:
    """What vectors take when they are kept in such numbers."""
    return sum(array.nbytes for array in pack(vectors, numbers).values()) / MB


def megabytes_of_encoder(encoder: TextEncoder, numbers: str) -> float:
    """What its matrices take in such numbers, and its biases and normalisations in float32."""
    weights = [weight.detach().numpy() for weight in encoder.backbone.parameters()]
    return sum(megabytes(weight, numbers if weight.ndim == 2 else "float32") for weight in weights)


def lighter(encoder: TextEncoder, numbers: str) -> TextEncoder:
    """A copy with its matrices rounded to such numbers, which multiplies in bfloat16 unless they are float32."""
    dtype = "float32" if numbers == "float32" else "bfloat16"
    copy = TextEncoder(deepcopy(encoder.backbone), encoder.tokenizer, replace(encoder.options, dtype=dtype, vectors="float32"))
    with torch.no_grad():
        for weight in copy.backbone.parameters():
            if weight.ndim == 2:
                weight.copy_(torch.from_numpy(rounded(weight.numpy(), numbers)))
    return copy


def measure(run: str, n_queries: int | None) -> None:
    """Prints one table."""
    shop = Recommender.load(run)
    model, timeline, own = shop.joint.model, shop.timeline, shop.joint.model.texts
    queries = timeline.queries(shop.dataset.split.weeks["test"])
    queries = queries.take(np.sort(np.random.default_rng(0).permutation(len(queries))[:n_queries]))
    labels, has_words = season_labels(shop.dataset), own.vectors.any(1)
    print(f"{run}: {len(own.vectors):,} texts, {len(queries):,} test queries, {torch.get_num_threads()} threads\n")
    print(f"{'encoder':<10}{'MB':>8}{'texts/s':>9}  {'vectors':<10}{'MB':>8}{'cosine, least':>15}{'all NDCG@10':>13}{'new_to_user':>13}")
    for of_encoder in NUMBERS:
        encoder = lighter(own.encoder, of_encoder)
        start = clock()
        model.texts = CatalogueTexts(encoder, shop.item_texts, shop.dataset.user_texts)
        model.texts.near = own.near
        speed = len(own.vectors) / (clock() - start)
        encoded = model.texts.vectors.numpy().copy()
        for numbers in NUMBERS:
            model.texts.vectors.copy_(torch.from_numpy(rounded(encoded, numbers)))
            cosine = torch.cosine_similarity(model.texts.vectors, own.vectors)[has_words].min()
            values = means(evaluate(rank(shop.joint.scorer, timeline, queries), timeline, labels).select(COLUMNS))
            print(
                f"{of_encoder:<10}{megabytes_of_encoder(encoder, of_encoder):>8.1f}{speed:>9.0f}  "
                f"{numbers:<10}{megabytes(encoded, numbers):>8.2f}{cosine:>15.5f}{values[0]:>13.5f}{values[1]:>13.5f}",
                flush=True,
            )


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="folder of a finished training")
    parser.add_argument("--queries", type=int, help="how many test queries; by default all")
    args = parser.parse_args()
    measure(args.run, args.queries)


if __name__ == "__main__":
    main()
