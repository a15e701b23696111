"""A pod of the manifests without a kubelet: volumes are directories, containers are processes.

Every command, path and file comes from the manifests, with mount points replaced by directories of
the test, and addresses by those that are free here.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.deploy.manifests import Manifest

_BIN = Path(sys.executable).parent


@dataclass(slots=True)
class LocalPod:
    """A pod's volumes under `directory`, and the replacements that its texts need."""

    directory: Path
    replacements: dict[str, str] = field(default_factory=dict)

    def mount(self, container: Manifest) -> None:
        """Make a directory for each volume of `container`, known by its mount point.

        The group may write to it, as `fsGroup` has it.
        """
        for each in container["volumeMounts"]:
            volume = self.directory / each["name"]
            volume.mkdir(exist_ok=True)
            volume.chmod(0o2775)
            self.replacements[each["mountPath"]] = str(volume)

    def fill(self, volume: str, files: Mapping[str, str]) -> None:
        """Write the files of a ConfigMap or a Secret, which the pod's group can read."""
        for name, text in files.items():
            file = self.directory / volume / name
            file.write_text(self.replace(text))
            file.chmod(0o440)

    def path(self, text: str) -> Path:
        """Return where a file of the pod is."""
        return Path(self.replace(text))

    def replace(self, text: str) -> str:
        """Return `text` with every replacement made, in one pass; never half a word."""
        longest_first = sorted(self.replacements, key=len, reverse=True)
        old = re.compile(f"(?:{'|'.join(re.escape(each) for each in longest_first)})(?!\\w)")
        return old.sub(lambda match: self.replacements[match[0]], text)

    def start(self, container: Manifest, *, image_runs: str = "") -> "subprocess.Popen[bytes]":
        """Start `container`; `image_runs` is its image's entry point. Output goes to `log`."""
        words = [*container.get("command", [image_runs]), *container.get("args", [])]
        with self.log(container).open("wb") as log:
            return subprocess.Popen(
                [self.replace(word) for word in words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PATH": f"{_BIN}:{os.environ['PATH']}"},
            )

    def log(self, container: Manifest) -> Path:
        """Return the file that holds what `container` has written."""
        return self.directory / f"{container['name']}.log"
