"""Revoking certificates, and banning who must not get another one."""
