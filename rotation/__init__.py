"""What is due: when certificates are renewed, and the loop that does it."""
