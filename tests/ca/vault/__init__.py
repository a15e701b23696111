"""Tests of the upstreams `vault` and `vault_transit`."""
