"""Where the real programs are looked for, and how kube-apiserver would be built."""

import json
from pathlib import Path

import pytest

from tests import assets


def program(directory: Path, name: str, mode: int = 0o755) -> Path:
    """Make a program that does nothing."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


def test_kubebuilder_assets_go_before_the_cache(tmp_path: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert assets.find_kube_apiserver(environment) is None

    cached = program(assets.cache_directory(environment), "kube-apiserver")
    assert assets.find_kube_apiserver(environment) == cached

    given = program(tmp_path / "given", "kube-apiserver")
    environment["KUBEBUILDER_ASSETS"] = str(tmp_path / "given")
    assert assets.find_kube_apiserver(environment) == given


def test_etcd_may_be_on_the_path_too(tmp_path: Path) -> None:
    installed = program(tmp_path / "bin", "etcd")
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PATH": f"/nowhere:{tmp_path / 'bin'}"}

    assert assets.find_etcd(environment) == installed


def test_a_file_that_cannot_be_run_is_not_a_program(tmp_path: Path) -> None:
    program(tmp_path, "kube-apiserver", mode=0o644)

    environment = {"KUBEBUILDER_ASSETS": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    assert assets.find_kube_apiserver(environment) is None


def test_the_cache_is_outside_the_tree_and_named_for_the_version(tmp_path: Path) -> None:
    assert assets.cache_directory({"XDG_CACHE_HOME": str(tmp_path)}).parts[-3:] == (
        "meshca",
        "assets",
        assets.KUBERNETES_VERSION,
    )
    assert assets.cache_directory({}).is_relative_to(Path.home() / ".cache")


def test_every_staging_module_is_replaced_by_its_release() -> None:
    described = {
        "Replace": [
            {"Old": {"Path": "k8s.io/api"}, "New": {"Path": "./staging/src/k8s.io/api"}},
            {"Old": {"Path": "example.org/x"}, "New": {"Path": "example.org/y"}},
        ]
    }
    release = assets.KUBERNETES_VERSION.replace("v1.", "v0.")

    edits = assets.staging_replacements(json.dumps(described))

    assert edits == [f"-replace=k8s.io/api=k8s.io/api@{release}"]


def test_a_module_without_staging_is_not_what_we_know() -> None:
    with pytest.raises(assets.AssetError, match="staging"):
        assets.staging_replacements("{}")


def test_the_program_is_told_its_version() -> None:
    command = " ".join(assets.build_command("go", Path("out")))

    assert f"version.gitVersion={assets.KUBERNETES_VERSION}" in command
    assert "version.gitMajor=1 " in command
    assert command.endswith("-o out k8s.io/kubernetes/cmd/kube-apiserver")
