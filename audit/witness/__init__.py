"""Being a witness of other logs: their checkpoints, held against what was seen before."""
