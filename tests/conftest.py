"""Set-up of every test process: Hypothesis profiles, shape checks in solvers, threads."""

import importlib.util
import os

from hypothesis import settings

# Select another with --hypothesis-profile. Derandomised: the same code gives the same verdict.
# One bug per report, so that the message holds one set of drawn inputs.
settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    max_examples=100,
    print_blob=True,
    report_multiple_bugs=False,
)
settings.register_profile("gate", settings.get_profile("default"), max_examples=25)
# Fresh random problems on every run, to look for what the fixed ones miss.
settings.register_profile(
    "thorough", settings.get_profile("default"), derandomize=False, max_examples=1000
)
settings.load_profile("default")

# Checks the jaxtyping shapes of the solvers. `make figures` installs no beartype: there the gate
# checks values only.
if importlib.util.find_spec("beartype"):
    from jaxtyping import install_import_hook

    install_import_hook("solvers", "beartype.beartype")

# Workers share the cores among themselves; more threads in each would only compete.
if "PYTEST_XDIST_WORKER" in os.environ:
    import torch

    torch.set_num_threads(1)
