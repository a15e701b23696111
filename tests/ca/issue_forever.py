"""Run by test_kill.py as a program: issue certificates and print each, until killed."""

import asyncio
import os
import sys
from pathlib import Path

from tests.builders import issuing, make_caller, make_request

IN_FLIGHT = 8


async def main(directory: Path) -> None:
    """Issue for ever; a line on standard output says that a certificate was handed out."""
    async with issuing(directory) as ca:

        async def issue() -> None:
            while True:
                svid = await ca.issuance.issue(make_caller(), make_request())
                # One write of less than PIPE_BUF: a line is there whole or not at all.
                os.write(1, f"{svid.serial} {svid.der.hex()}\n".encode())

        await asyncio.gather(*(issue() for _ in range(IN_FLIGHT)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
