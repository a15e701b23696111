"""Who is calling: each proof of identity, verified into one value, the attested `Caller`."""
