"""The documents' own openssl commands, run as they stand: a root and an intermediate."""

import re
import shutil
import subprocess
from pathlib import Path

from tests.real_parts import ROOT, require

ROOT_COMMANDS = ROOT / "deploy" / "kubernetes" / "README.md"
INTERMEDIATE_COMMANDS = ROOT / "docs" / "runbooks" / "intermediate-expires.md"

# The root's key is encrypted, and openssl would ask for its passphrase.
_PASSPHRASE = """\
openssl() {
  case "$1 $2" in
    "req -x509") command openssl "$@" -passout pass:offline ;;
    "x509 -req") command openssl "$@" -passin pass:offline ;;
    *) command openssl "$@" ;;
  esac
}
"""


def commands(document: Path, label: str) -> str:
    """Return the fenced block `sh LABEL` of `document`."""
    (found,) = re.findall(rf"^```sh {label}\n(.*?)^```", document.read_text(), re.DOTALL | re.M)
    return str(found)


def make_authority(directory: Path) -> None:
    """Write root.pem, root.key, chain.pem and intermediate.key for `example.org`."""
    require(shutil.which("openssl") is not None, "openssl", "apt-get install openssl")
    root = commands(ROOT_COMMANDS, "root")
    intermediate = commands(INTERMEDIATE_COMMANDS, "intermediate")
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", _PASSPHRASE + root + intermediate],
        cwd=directory,
        check=True,
        capture_output=True,
    )
