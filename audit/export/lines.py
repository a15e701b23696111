"""Reading a large file line by line, in bounded memory, and noticing that it was cut off."""

from collections.abc import Iterator
from typing import BinaryIO, Final

from meshca.errors import MeshcaError

CHUNK_BYTES: Final = 1024 * 1024
MAXIMUM_LINE_BYTES: Final = 4 * 1024 * 1024


class ExportBroken(MeshcaError):
    """An export does not verify: `line` is the first that is wrong, counted from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line


def line_batches(stream: BinaryIO) -> Iterator[list[bytes]]:
    """Yield the lines of `stream`, many at a time, each without its newline.

    Raises ExportBroken for a last line without one, and for a line that no export has.
    """
    number, rest = 0, b""
    while chunk := stream.read(CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        number += len(lines)
        if len(rest) > MAXIMUM_LINE_BYTES:
            raise ExportBroken(number + 1, f"is longer than {MAXIMUM_LINE_BYTES} bytes")
        if lines:
            yield lines
    if rest:
        raise ExportBroken(number + 1, "the file ends in the middle of this line")
