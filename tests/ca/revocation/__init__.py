"""Tests of revocations and bans: what is hit, what is refused, what survives a fault."""
