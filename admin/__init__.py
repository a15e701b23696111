"""The administrator's door: the REST API behind the command line."""
