"""What happened: the append-only log, its hash chain, and queries over it."""
