"""Tasks: where the data come from. Data only, one dataclass each."""
