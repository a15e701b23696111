"""Building the upstream, and what wraps keys at rest, that the configuration names."""

from ca.at_rest import KeyAtRest, key_at_rest
from ca.pkcs11 import token_key
from ca.upstream import disk, self_signed, token
from ca.upstream.list_files import ListFiles
from ca.upstream.provision import Upstream
from ca.upstream.vault.build import build_at_rest, build_vault
from meshca.clock import Clock
from meshca.metrics import Metrics
from meshca.settings import Disk, Settings
from meshca.settings_vault import KeysUnderTransit, Vault


def build_key_at_rest(settings: Settings, clock: Clock, metrics: Metrics) -> KeyAtRest | None:
    """Return what wraps keys for the store, or None to keep none."""
    chosen = settings.key_at_rest
    if isinstance(chosen, KeysUnderTransit):
        return build_at_rest(chosen, clock=clock, metrics=metrics)
    return key_at_rest(chosen)


def build_upstream(settings: Settings, clock: Clock, metrics: Metrics) -> Upstream:
    """Return the upstream that the configuration names; nothing is read or asked yet."""
    chosen = settings.upstream
    if isinstance(chosen, Vault):
        return build_vault(
            chosen,
            trust_domain=settings.trust_domain,
            lifetime=settings.lifetimes.intermediate,
            clock=clock,
            metrics=metrics,
        )
    if not isinstance(chosen, Disk):
        return self_signed.unsafe_self_signed(
            settings.data_dir,
            trust_domain=settings.trust_domain,
            lifetime=settings.lifetimes.intermediate,
        )
    if chosen.root_key is not None:
        return disk.DiskRoot(
            root=chosen.root,
            root_key=chosen.root_key,
            passphrase_file=chosen.passphrase_file,
            trust_domain=settings.trust_domain,
            lifetime=settings.lifetimes.intermediate,
        )
    assert chosen.chain is not None  # noqa: S101  # settings checked it
    if chosen.pkcs11 is not None:
        return token.TokenIntermediate(
            root=chosen.root,
            chain=chosen.chain,
            key=token_key(chosen.pkcs11),
            trust_domain=settings.trust_domain,
            list_files=ListFiles(tuple(chosen.lists)),
        )
    assert chosen.key is not None  # noqa: S101  # settings checked it
    return disk.DiskIntermediate(
        root=chosen.root,
        chain=chosen.chain,
        key=chosen.key,
        passphrase_file=chosen.passphrase_file,
        trust_domain=settings.trust_domain,
        list_files=ListFiles(tuple(chosen.lists)),
    )
