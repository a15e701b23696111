"""What this machine remembers of each log that it cosigned, beside the database: one small file.

A database that was put back would have us cosign a second history in good faith. So what was
cosigned last is on this machine's disk, too, before each cosignature, one of the same checkpoint
included, and a database that knows less is not believed. A file that cannot be read stops the
witness, never the service.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from audit.files import make_private_directory, read_private, replace_file
from audit.witness.store import Seen
from meshca.errors import EvidenceBroken, StoreUnavailable


@dataclass(frozen=True, slots=True)
class WitnessMemory:
    """The file `path`: size and root of what was cosigned last, by origin."""

    path: Path

    def check(self, origin: str, seen: Seen) -> None:
        """Raise EvidenceBroken unless the database has `seen` at least what is remembered.

        Raises StoreUnavailable when the file cannot be read.
        """
        self._check(self._read(), origin, seen)

    def remember(self, origin: str, seen: Seen) -> None:
        """Write down what is about to be cosigned, on the disk.

        Raises StoreUnavailable, and EvidenceBroken for less than is remembered.
        """
        held = self._read()
        self._check(held, origin, seen)
        held[origin] = (seen.size, seen.root.hex())
        make_private_directory(self.path.parent)
        replace_file(self.path, orjson.dumps(held, option=orjson.OPT_SORT_KEYS))

    def _check(self, held: Mapping[str, tuple[int, str]], origin: str, seen: Seen) -> None:
        if origin not in held:
            return
        size, root = held[origin]
        if seen.size < size or (seen.size == size and seen.root.hex() != root):
            raise EvidenceBroken(
                seen.size,
                f"{origin} was cosigned here with {size} entries, and the database knows of "
                f"{seen.size}: it was put back or changed",
            )

    def _read(self) -> dict[str, tuple[int, str]]:
        try:
            document: Any = orjson.loads(read_private(self.path))
            return {
                str(origin): (int(size), str(root)) for origin, (size, root) in document.items()
            }
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError) as error:
            raise StoreUnavailable(f"{self.path} is not what was written there") from error
