"""The paper's experiments, one module each: frozen `Settings` and `run(settings) -> table`."""
