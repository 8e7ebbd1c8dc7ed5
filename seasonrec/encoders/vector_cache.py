"""Vectors of texts on disk, text by text, so that a later cut-off or another data set encodes only what is new."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from safetensors import numpy as safetensors

from seasonrec.data.timeline import rows_among
from seasonrec.encoders.compact import pack, unpack

log = logging.getLogger(__name__)

Keys = NDArray[np.int64]
Vectors = NDArray[np.float32]


def text_keys(texts: Sequence[str]) -> Keys:
    """A 64-bit hash of each text, [n]; two of a million texts share one with probability 3e-8."""
    return np.frombuffer(b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts), np.int64)


class VectorCache:
    """The vectors that one encoder gave, as safetensors shards in one folder.

    A shard's name is the hash of its bytes: a damaged one is noticed, and two processes that write at once cannot disturb each other.

    Args:
        folder: of this encoder alone, made when something is written.
        numbers: that vectors are kept in, of `seasonrec.encoders.compact`.
    """

    def __init__(self, folder: Path, numbers: str = "float32"):
        self.folder, self.numbers = folder, numbers

    def alone(self) -> AbstractContextManager[None]:
        """While open, no other process encodes for this cache; one that waited finds the vectors that the first one made."""
        return alone(self.folder)

    def read(self, texts: Sequence[str], into: Vectors) -> NDArray[np.bool_]:
        """Puts the known vectors of distinct texts into the rows of `into` [n, d] and tells which were known, [n]."""
        keys = text_keys(texts)
        order = np.argsort(keys)
        ascending, known = keys[order], np.zeros(len(keys), bool)
        for path in sorted(self.folder.glob("*.safetensors")) if len(keys) else ():
            shard_keys, vectors = self._shard(path, into.shape[1])
            place = rows_among(ascending, shard_keys)
            wanted = place >= 0
            rows = order[place[wanted]]
            into[rows], known[rows] = vectors[wanted], True
        return known

    def add(self, texts: Sequence[str], vectors: Vectors) -> None:
        """Keeps vectors [n, d] as one more shard, which appears whole or not at all."""
        write_shard(self.folder, safetensors.save({"key": text_keys(texts), **pack(vectors, self.numbers)}))

    def _shard(self, path: Path, d: int) -> tuple[Keys, Vectors]:
        data = read_shard(path)
        if data is None:
            return np.empty(0, np.int64), np.empty((0, d), np.float32)
        shard = safetensors.load(data)
        return shard["key"], unpack(shard)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """While open, no other process that asks for the same folder is let in."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        yield


def write_shard(folder: Path, data: bytes) -> Path:
    """Keeps the bytes of a safetensors file under the name of their hash; it appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{uuid4().hex}.part"
    part.write_bytes(data)
    return part.replace(folder / f"{_name(data)}.safetensors")


def read_shard(path: Path) -> bytes | None:
    """The bytes of a shard; None where they are not those that were written: such a file is removed, with a warning."""
    data = b""
    with suppress(FileNotFoundError):  # another process may have removed it just now
        data = path.read_bytes()
    if path.stem == _name(data):
        return data
    log.warning("%s is damaged: removed, what it held is made again", path)
    path.unlink(missing_ok=True)
    return None


def _name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
