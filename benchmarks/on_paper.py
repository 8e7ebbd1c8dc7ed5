"""What a shop of 1e8 events and 1e7 items would cost on 1, 8 and 64 GPUs, worked out and not run: python benchmarks/on_paper.py

Where things live follows from the code: the timeline in the memory of each process; vectors, embeddings and weights on each GPU; a step's
candidates, never the catalogue, in the softmax. Bytes an event come from seasonrec/data/timeline.py, a batch's shapes from
seasonrec/data/batches.py, widths from conf/head. Everything else is an argument or stands in `Machine`, and is an assumption.
"""

import argparse
from dataclasses import dataclass

from seasonrec.data.batches import N_FACTS
from seasonrec.data.counters import N_FEATURES

GB = 1e9
EVENT, USER = 99, 16  # bytes in the timeline
D_DEMAND = 2 * N_FEATURES + N_FACTS
NEAR = 50  # conf/train.yaml: nearest texts of a text
D_FACTORS, D_SEASON, D_PROFILE = 32, 64, 96  # conf/head: Factors, HarmonicText and ContextText, ProfileText
LEARNING = 3  # of bytes of what learns: itself and AdamW's two moments; its gradient is counted with a step
COUNTS = (1, 8, 64)  # GPUs
BACKWARD = 3  # times the arithmetic of a forward pass


@dataclass(frozen=True)
class Machine:
    """Assumed: eight cards of about an H100's size in a machine, of which half the bf16 rate is reached."""

    flops: float = 400e12
    float32: float = 40e12  # of products without tensor cores
    card: float = 80 * GB
    memory: float = 3_000 * GB  # a second to and from the card's own
    host: float = 2_000 * GB
    inside: float = 300 * GB  # a second between cards of a machine
    between: float = 25 * GB  # a second for each card between machines
    per_host: int = 8


@dataclass(frozen=True)
class Shop:
    """Sizes of the data, of the encoder (BERT-base's by default) and of a step."""

    events: float = 1e8
    items: float = 1e7
    users: float = 1e7
    tokens: float = 16  # of a product text
    d_text: int = 768
    body: float = 85e6  # parameters in the encoder's blocks
    encoder: float = 110e6  # all of its parameters
    queries: int = 64  # of a step, for each GPU
    candidates: int = 2_048  # drawn by popularity; truth and own purchases come on top
    basket: int = 20  # items bought by a query
    bought: int = 60  # items that its user had bought before, each a candidate with probability .2
    fresh: int = 256  # texts encoded with gradients in a step, for each GPU


def held(shop: Shop) -> list[tuple[str, str, float]]:
    """What each process holds: where, and how many bytes."""
    return [
        ("timeline", "host", EVENT * shop.events + USER * shop.users),
        ("demand of one moment, and its view", "host", 4 * shop.items * (D_DEMAND + 5)),
        ("text vectors, float32", "card", 4 * shop.items * shop.d_text),
        ("text vectors, bfloat16", "card", 2 * shop.items * shop.d_text),
        ("text vectors, int8", "card", shop.items * (shop.d_text + 4)),
        ("nearest texts and how near", "card", 12 * shop.items * NEAR),
        ("id embeddings with AdamW", "card", 4 * LEARNING * shop.items * 2 * D_FACTORS),
        ("encoder with AdamW", "card", 4 * LEARNING * shop.encoder),
    ]


def step(shop: Shop, machine: Machine, n: int) -> dict[str, float]:
    """A step's arithmetic and traffic for each of n cards with `finetune=full`, in seconds by what it is."""
    batch = n * shop.queries
    candidates = min(shop.candidates + batch * (shop.basket + 0.2 * shop.bought), shop.items)
    link = machine.inside if n <= machine.per_host else machine.between
    reduced = lambda size: 0.0 if n == 1 else 2 * size * (n - 1) / n / link  # a ring
    wide = shop.d_text + D_FACTORS  # the texts of seasons and profiles are met where they lie, embeddings beside them
    return {
        "encoder": BACKWARD * 2 * shop.body * shop.fresh * shop.tokens / machine.flops,
        "scores of candidates": BACKWARD * 2 * shop.queries * candidates * wide / machine.flops,
        "softmax over the catalogue instead": BACKWARD * 2 * shop.queries * shop.items * wide / machine.flops,
        "AdamW over all embeddings": (4 * (2 * LEARNING + 1)) * shop.items * 2 * D_FACTORS / machine.memory,
        "scores put together": 2 * reduced(4 * 3 * batch * candidates),  # mixed, cf and content, and their gradients
        "gradients of the encoder": reduced(4 * shop.encoder),
        "gradients of embeddings": reduced(4 * shop.items * 2 * D_FACTORS),
    }


def seldom(shop: Shop, machine: Machine, n: int) -> dict[str, float]:
    """Seconds of what is done once a fit, an epoch or a query, on n cards; every product's text is another."""
    return {
        "all texts encoded anew": 2 * shop.body * shop.items * shop.tokens / machine.flops / n,
        "the same where every process does all of them, as it is": 2 * shop.body * shop.items * shop.tokens / machine.flops,
        "nearest texts found, by every process": 2 * shop.items**2 * shop.d_text / machine.float32,
        "1,000 queries over the whole catalogue": 2 * 1_000 * shop.items * (shop.d_text + D_FACTORS) / machine.flops,
    }


def table(shop: Shop, machine: Machine) -> str:
    """All of it as Markdown."""
    sizes = f"{shop.events:.0e} events, {shop.items:.0e} items, {shop.users:.0e} users"
    lines = [
        f"{sizes}; texts {shop.d_text} wide; {shop.queries} queries a step and GPU",
        "",
        f"| what a process holds | where | GB | a host of {machine.per_host} |",
        "|---|---|---:|---:|",
    ]
    for what, where, size in held(shop):
        of_host = f"{machine.per_host * size / GB:,.0f} of {machine.host / GB:,.0f}" if where == "host" else ""
        lines.append(f"| {what} | {where} | {size / GB:,.1f} | {of_host} |")
    steps = [step(shop, machine, n) for n in COUNTS]
    rare = [seldom(shop, machine, n) for n in COUNTS]
    return "\n".join([*lines, "", *_by_count("a step, ms", steps, 1e3), "", *_by_count("now and then, s", rare, 1.0)])


def _by_count(title: str, costs: list[dict[str, float]], unit: float) -> list[str]:
    head = [f"| {title} | " + " | ".join(f"{n} GPU" for n in COUNTS) + " |", "|---|" + "---:|" * len(COUNTS)]
    return [*head, *(f"| {what} | " + " | ".join(f"{unit * each[what]:,.2f}" for each in costs) + " |" for what in costs[0])]


def main() -> None:
    """Prints the tables for the sizes asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in vars(Shop()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    print(table(Shop(**vars(parser.parse_args())), Machine()))


if __name__ == "__main__":
    main()
