"""Where checkpoints are kept outside of our reach: one adapter a kind of place."""
