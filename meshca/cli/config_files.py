"""What a configuration points to: files that must be there, policies that must load.

`serve` would find these too, one at a time; `meshca config check` reports them all.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from meshca.errors import InvalidDocument, Problem
from meshca.settings import Disk, SelfSigned, Settings
from meshca.settings_vault import KeysUnderTransit, Vault, VaultServer


def problems(settings: Settings, source: str) -> list[Problem]:
    """Return what is wrong with the files that `settings`, read from `source`, name."""
    missing = [
        Problem(key, f"cannot be read: {path}", source)
        for key, path in _files(settings)
        if not _is_readable(path)
    ]
    return [*missing, *_policy_problems(settings), *_retention_problems(settings, source)]


def _files(settings: Settings) -> Iterator[tuple[str, Path]]:
    yield from _upstream_files(settings.upstream)
    for name in ("passphrase_file", "key_file"):
        if (path := getattr(settings.key_at_rest, name, None)) is not None:
            yield f"key_at_rest.{name}", path
    if isinstance(settings.key_at_rest, KeysUnderTransit):
        yield from _vault_files("key_at_rest", settings.key_at_rest)
    for index, cluster in enumerate(settings.clusters):
        keys = cluster.keys
        if keys is not None and keys.file is not None:
            yield f"clusters[{index}].keys.file", keys.file
        if keys is not None and keys.ca_file is not None:
            yield f"clusters[{index}].keys.ca_file", keys.ca_file
    jwks = settings.admin.oidc.jwks if settings.admin.oidc is not None else None
    for name in ("file", "ca_file"):
        if (path := getattr(jwks, name, None)) is not None:
            yield f"admin.oidc.jwks.{name}", path
    yield from _kubeconfigs(settings)


def _kubeconfigs(settings: Settings) -> Iterator[tuple[str, Path]]:
    for index, source in enumerate(settings.policy.sources):
        if source.kubernetes is not None and source.kubernetes.kubeconfig is not None:
            yield f"policy.sources[{index}].kubernetes.kubeconfig", source.kubernetes.kubeconfig
    for index, pods in enumerate(settings.policy.pods):
        if pods.kubeconfig is not None:
            yield f"policy.pods[{index}].kubeconfig", pods.kubeconfig


def _vault_files(key: str, server: VaultServer) -> Iterator[tuple[str, Path]]:
    if server.ca_file is not None:
        yield f"{key}.ca_file", server.ca_file
    for name in ("token_file", "secret_id_file"):
        if (path := getattr(server.auth, name, None)) is not None:
            yield f"{key}.auth.{name}", path


def _upstream_files(upstream: SelfSigned | Disk | Vault) -> Iterator[tuple[str, Path]]:
    if isinstance(upstream, Disk):
        for name in ("root", "chain", "key", "root_key", "passphrase_file"):
            if (path := getattr(upstream, name)) is not None:
                yield f"upstream.{name}", path
        if upstream.pkcs11 is not None:
            yield "upstream.pkcs11.module", upstream.pkcs11.module
            yield "upstream.pkcs11.pin_file", upstream.pkcs11.pin_file
    if isinstance(upstream, Vault):
        yield from _vault_files("upstream", upstream)


def _is_readable(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


def _policy_problems(settings: Settings) -> list[Problem]:
    from authz.directory import Texts, read_directory
    from authz.load import load_policies

    found: list[Problem] = []
    texts: list[Texts] = []
    directories = [s.directory for s in settings.policy.sources if s.directory is not None]
    for directory in directories:
        try:
            texts.append(read_directory(directory))
        except InvalidDocument as error:
            found += error.problems
    try:
        load_policies(
            [text for group in texts for text in group],
            trust_domain=settings.trust_domain,
            root_namespace=settings.policy.root_namespace,
            default=settings.policy.default,
            aliases=settings.policy.trust_domain_aliases,
            providers=frozenset(settings.policy.providers),
        )
    except InvalidDocument as error:
        found += error.problems
    return found


def _retention_problems(settings: Settings, source: str) -> list[Problem]:
    from audit.retention.rules import rules_of

    try:
        rules_of(settings)
    except InvalidDocument as error:
        return [replace(problem, file=source) for problem in error.problems]
    return []
