"""Families of laws, one file each: what a policy returns at every input."""
