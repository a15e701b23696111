"""A real PKCS#11 module, SoftHSM2, with tokens made for this test process.

SoftHSM reads its configuration, and looks for tokens, once a process: so there is one set of
tokens, made before the module is loaded; keys are added to them as tests need.
"""

import atexit
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.real_parts import require

PIN = "2468-meshca"
TOKENS = ("meshca", "renewed", "twins", "twins")
_MODULES = ("/usr/lib/softhsm", "/usr/lib/*/softhsm", "/usr/local/lib/softhsm")


@dataclass(frozen=True)
class SoftHsm:
    """The module, and a directory for the tests' PIN files."""

    module: Path
    directory: Path


@cache
def softhsm() -> SoftHsm:
    """Return the module with `TOKENS`, each with the PIN `PIN`; skips where it is missing."""
    found = [path for folder in _MODULES for path in Path("/").glob(f"{folder[1:]}/libsofthsm2.so")]
    installed = bool(found) and shutil.which("softhsm2-util") is not None
    require(installed, "softhsm2", "apt-get install softhsm2")
    directory = Path(tempfile.mkdtemp(prefix="meshca-softhsm-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    (directory / "tokens").mkdir()
    configuration = directory / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {directory / 'tokens'}\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    for label in TOKENS:
        command = ["softhsm2-util", "--init-token", "--free", "--label", label]
        subprocess.run(
            [*command, "--so-pin", "so-" + PIN, "--pin", PIN], check=True, capture_output=True
        )
    return SoftHsm(found[0], directory)
