"""The certificate authority: keys, authorities, profiles, lint, issuance, bundles."""
