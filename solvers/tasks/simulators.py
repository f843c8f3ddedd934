"""MuJoCo's environments from gymnasium, which is an optional extra."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

from ..errors import MissingExtraError, check_choice

if TYPE_CHECKING:
    import gymnasium

SIMULATORS = {"halfcheetah": "HalfCheetah-v5", "hopper": "Hopper-v5", "walker2d": "Walker2d-v5"}
"""Of each environment; episodes are truncated after 1000 steps."""

# Said of gymnasium's model of the half-cheetah, by the versions of MuJoCo that will drop it.
KNOWN = "'settotalmass' is deprecated"


def extra(module: str) -> ModuleType:
    """Return a module of the extra `dynamics`, imported.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module} cannot be imported ({error}): run `pip install -e '.[dynamics]'`"
        ) from error


@contextmanager
def simulator(environment: str) -> Generator[gymnasium.Env]:
    """Make an environment, and close it in the end; what MuJoCo warns of is a Python warning.

    Otherwise MuJoCo writes it to a file in the current folder.

    Raises:
        InputError: unknown environment.
        MissingExtraError: gymnasium or MuJoCo is not installed.
    """
    check_choice("environment", environment, SIMULATORS)
    gym, mujoco = extra("gymnasium"), extra("mujoco")

    def warn(message: str) -> None:
        if KNOWN not in message:
            warnings.warn(f"MuJoCo: {message}", RuntimeWarning, stacklevel=2)

    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(warn)
    try:
        made = gym.make(SIMULATORS[environment], disable_env_checker=True)
        try:
            yield made
        finally:
            made.close()
    finally:
        mujoco.set_mju_user_warning(before)
