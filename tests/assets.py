"""The real etcd and kube-apiserver for the tests: `make test-assets` obtains them, tests find them.

etcd is a Debian package. kube-apiserver is built from the Go module `k8s.io/kubernetes`, once, into
`$XDG_CACHE_HOME/meshca/assets/<version>/` (by default under `~/.cache`), outside the tree. Running
this again does nothing when both are there. A directory named by `KUBEBUILDER_ASSETS` goes first.

The published Kubernetes module cannot be built by itself: it points at staging directories that
are not in it. So the build happens in a temporary module that requires it and replaces each
staging module with the version that was published beside it (v1.36.3 goes with v0.36.3).
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

KUBERNETES_VERSION = "v1.36.3"
MODULE = "k8s.io/kubernetes"
INSTALL_ETCD = ("apt-get", "install", "--yes", "--no-install-recommends", "etcd-server")
HOW = "make test-assets"
_TOOLS = f'//go:build tools\n\npackage tools\n\nimport _ "{MODULE}/cmd/kube-apiserver"\n'
_PROGRESS_SECONDS = 30
_console = Console(stderr=True, soft_wrap=True, highlight=False)


class AssetError(Exception):
    """A binary cannot be had; the message says what to do about it."""


def cache_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the directory, outside the tree, that holds what this version's build made."""
    given = environment.get("XDG_CACHE_HOME")
    root = Path(given) if given else Path.home() / ".cache"
    return root / "meshca" / "assets" / KUBERNETES_VERSION


def find_kube_apiserver(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return kube-apiserver from `KUBEBUILDER_ASSETS` or the cache, or None."""
    return _find("kube-apiserver", _directories(environment))


def find_etcd(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return etcd from `KUBEBUILDER_ASSETS`, the cache or `PATH`, or None."""
    path = [Path(part) for part in environment.get("PATH", "").split(os.pathsep) if part]
    return _find("etcd", [*_directories(environment), *path])


def _directories(environment: Mapping[str, str]) -> list[Path]:
    given = environment.get("KUBEBUILDER_ASSETS")
    return [*([Path(given)] if given else []), cache_directory(environment)]


def _find(name: str, directories: Sequence[Path]) -> Path | None:
    for directory in directories:
        program = directory / name
        if program.is_file() and os.access(program, os.X_OK):
            return program
    return None


def obtain_etcd() -> Path:
    """Return etcd, installing Debian's package when run by root.

    Raises AssetError with the command to run when it may not install, or when that failed.
    """
    if found := find_etcd():
        return found
    command = " ".join(INSTALL_ETCD)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise AssetError(f"etcd is missing; as root on Debian: {command}")
    _console.print(f"installing etcd: {command}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(("apt-get", "update", "--quiet"), check=False, env=environment)
    subprocess.run(INSTALL_ETCD, check=False, env=environment)
    found = find_etcd()
    if found is None:
        raise AssetError(f"etcd is still missing after: {command}")
    return found


def obtain_kube_apiserver() -> Path:
    """Return kube-apiserver, building it with Go when it is in neither place.

    Raises AssetError when Go is absent or a step of the build fails.
    """
    if found := find_kube_apiserver():
        return found
    go = shutil.which("go")
    if go is None:
        raise AssetError(
            f"kube-apiserver {KUBERNETES_VERSION} is built with Go 1.26 or newer, and there is no "
            "go: install it from https://go.dev/dl/ and run this again, or point "
            "KUBEBUILDER_ASSETS at a directory that holds kube-apiserver"
        )
    target = cache_directory() / "kube-apiserver"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="meshca-assets-") as directory:
        return _build(Path(directory), go, target)


def _build(directory: Path, go: str, target: Path) -> Path:
    """Build in `directory`, then move the program to `target` in one step."""
    prepare_module(directory, go)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    what = "building kube-apiserver (about 7 minutes on 2 cores)"
    try:
        _run(directory, what, build_command(go, partial))
        _run(directory, "checking that it starts", (str(partial), "--version"))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def prepare_module(directory: Path, go: str) -> None:
    """Write into `directory` the module whose only dependency is kube-apiserver."""
    _run(directory, "making a module", (go, "mod", "init", "meshca.test/kube-apiserver"))
    download = (go, "mod", "download", "-json", f"{MODULE}@{KUBERNETES_VERSION}")
    downloaded = _run(directory, f"downloading {MODULE} {KUBERNETES_VERSION}", download)
    published = json.loads(downloaded)["GoMod"]
    described = _run(directory, "reading its go.mod", (go, "mod", "edit", "-json", published))
    language = f"-go={json.loads(described)['Go']}"
    requirement = f"-require={MODULE}@{KUBERNETES_VERSION}"
    edits = [language, requirement, *staging_replacements(described)]
    _run(directory, "replacing its staging modules", (go, "mod", "edit", *edits))
    (directory / "tools.go").write_text(_TOOLS)
    _run(directory, "resolving dependencies", (go, "mod", "tidy", "-e"))


def staging_replacements(go_mod_json: str) -> list[str]:
    """Return the `go mod edit` arguments that replace each staging directory with its release."""
    version = KUBERNETES_VERSION.replace("v1.", "v0.", 1)
    replaced = [
        entry["Old"]["Path"]
        for entry in json.loads(go_mod_json).get("Replace") or []
        if entry["New"]["Path"].startswith("./staging/")
    ]
    if not replaced:
        raise AssetError(f"{MODULE} {KUBERNETES_VERSION} names no staging modules: has it moved?")
    return [f"-replace={path}={path}@{version}" for path in replaced]


def build_command(go: str, target: Path) -> tuple[str, ...]:
    """Return the command that builds a kube-apiserver that knows its own version."""
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    values = {"gitVersion": KUBERNETES_VERSION, "gitMajor": major, "gitMinor": minor}
    stamp = " ".join(f"-X k8s.io/component-base/version.{k}={v}" for k, v in values.items())
    package = f"{MODULE}/cmd/kube-apiserver"
    return (go, "build", "-trimpath", "-ldflags", f"-s -w {stamp}", "-o", str(target), package)


def _run(directory: Path, what: str, command: Sequence[str]) -> str:
    """Run one step and return its output; raise AssetError with the end of what it said."""
    started = time.monotonic()
    _console.print(f"{what} ...")
    done = threading.Event()
    reporter = threading.Thread(target=_report, args=(what, started, done), daemon=True)
    reporter.start()
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=mod -buildvcs=false",
        "GOWORK": "off",
    }
    try:
        result = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, check=False
        )
    finally:
        done.set()
    if result.returncode != 0:
        raise AssetError(f"{what} failed: {' '.join(command)}\n{result.stderr[-3000:]}")
    return result.stdout


def _report(what: str, started: float, done: threading.Event) -> None:
    while not done.wait(_PROGRESS_SECONDS):
        _console.print(f"  {what}: {time.monotonic() - started:.0f} s so far")


def main() -> int:
    """Obtain both programs, say where they are, and return the exit status."""
    status = 0
    for name, obtain in (("etcd", obtain_etcd), ("kube-apiserver", obtain_kube_apiserver)):
        try:
            _console.print(f"{name}: {obtain()}")
        except AssetError as error:
            _console.print(f"{name}: {error}", style="red")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
