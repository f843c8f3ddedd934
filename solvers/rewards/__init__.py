"""Rewards: of a distance, between classes, bounded, with parameters."""
