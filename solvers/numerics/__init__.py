"""Numerics that know no policy: searches, linear systems, containers of tensors, checkpoints."""
