"""HashiCorp Vault and OpenBao: they sign our intermediate, and may hold its key."""
