"""Publication: our trust bundle where workloads of a cluster can mount it."""
