"""A cache of judgements on disk, keyed by oracle and texts: after a kill no finished judgement is repeated."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

import numpy as np

from nashward.errors import NashwardError

from ..store.databases import database_errors, open_database

_MAGIC = b"SQLite format 3\0"  # the first bytes of its files
_BATCH = 500  # keys in one query
KIND = "cache of judgements"


class Cache:
    """A table of logits in one SQLite file, keyed by oracle, prompt and the two responses in the order shown.

    A key is a 16-byte hash of the oracle's fingerprint and the texts; neither is stored. Every ``put`` is one
    transaction: it survives a kill, and processes that share the file wait for each other. The file has to be on a
    local disk: SQLite's shared memory does not work over a network.

    Args:
        path: the file; it is created where it is missing.

    Raises:
        ValueError: the path is a folder, or the file is no such cache or cannot be opened.
        OSError: its folder cannot be created, or the disk is full or cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from nashward.llm.oracles import Length, preference_matrices
        >>> with TemporaryDirectory() as home, Cache(home + "/judgements.sqlite") as cache:
        ...     for _ in range(2):
        ...         (result,) = preference_matrices(Length(), ["Say hello."], [["Hi.", "Hello!"]], cache=cache)
        ...         print(result.meta["calls"], result.meta["cached"])
        1 0
        0 1
    """

    def __init__(self, path: str | Path) -> None:
        self.path = self.check(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"judgements cannot be kept in {self.path}: no folder can be made there ({error})") from None
        self._connection = open_database(
            self.path,
            KIND,
            "name another file",
            (
                "CREATE TABLE IF NOT EXISTS judgement (key BLOB PRIMARY KEY, logit NOT NULL) WITHOUT ROWID",
                "SELECT key, logit FROM judgement LIMIT 1",  # a table of another form is refused here
            ),
        )

    @staticmethod
    def check(path: str | Path) -> Path:
        """Check the path of a cache; nothing is created.

        Returns:
            The path, with "~" replaced.

        Raises:
            ValueError: it is a folder, or a file that is no SQLite database.
            NotADirectoryError: its folder would be inside of a file.
        """
        file = Path(path).expanduser()
        if file.is_dir():
            raise NashwardError(f"{file} is a folder; name a file in it to keep judgements in")
        for parent in file.parents:
            if parent.exists() and not parent.is_dir():
                raise NotADirectoryError(
                    f"judgements cannot be kept in {file}: no folder can be made there ({parent} is a file)"
                )
        if file.exists():
            with file.open("rb") as handle:
                if handle.read(len(_MAGIC)) not in (b"", _MAGIC):
                    raise NashwardError(f"{file} is no cache of judgements (it is no database); name another file")
        return file

    def __enter__(self) -> "Cache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        with database_errors(self.path, KIND):
            return int(self._connection.execute("SELECT COUNT(*) FROM judgement").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @staticmethod
    def keys(fingerprint: str, prompt: str, texts: Sequence[str], pairs: Iterable[tuple[int, int]]) -> list[bytes]:
        """The key of each pair (i, j) of one prompt's texts, i shown first; each text is hashed once.

        Example:
            >>> [len(key) for key in Cache.keys("length 1.0", "Say hello.", ["Hi.", "Hello!"], [(0, 1), (1, 0)])]
            [16, 16]
        """
        head = _hash(fingerprint.encode()) + _hash(prompt.encode(errors="surrogatepass"))
        hashed = [_hash(text.encode(errors="surrogatepass")) for text in texts]
        return [_hash(head + hashed[i] + hashed[j]) for i, j in pairs]

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """The logits ``[members]`` of the keys that the cache has."""
        logits: dict[bytes, np.ndarray] = {}
        for start in range(0, len(keys), _BATCH):
            part = keys[start : start + _BATCH]
            marks = ",".join("?" * len(part))
            with database_errors(self.path, KIND):
                rows = self._connection.execute(
                    f"SELECT key, logit FROM judgement WHERE key IN ({marks})", part
                ).fetchall()
            for key, value in rows:
                logits[key] = np.frombuffer(value) if isinstance(value, bytes) else np.array([value])
        return logits

    def put(self, logits: Mapping[bytes, np.ndarray]) -> None:
        """Write the logits ``[members]`` of these keys, all of them or, if the process dies, none."""
        if not logits:
            return
        rows = [
            (key, float(values[0]) if len(values) == 1 else np.asarray(values, dtype=np.float64).tobytes())
            for key, values in logits.items()
        ]
        with database_errors(self.path, KIND):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany("INSERT OR REPLACE INTO judgement VALUES (?, ?)", rows)
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


AnyCache = Cache | str | Path | None  # a cache, the path of one, or none


def _hash(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()
