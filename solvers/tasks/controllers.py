"""Linear controllers of MuJoCo's environments, found by `train_controllers`: small files of JSON.

Their returns, over 20 episodes of 1000 steps at most without noise, stand in the files. "expert"
is the name that Minari gives the best of its controllers; ours are linear, and weaker.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

FOLDER = Path(__file__).parent / "controllers"


@dataclass(frozen=True)
class Controller:
    """`action = clip(K observation + k, -1, 1)`.

    Attributes:
        K: `(a, n)`.
        k: `(a,)`.
    """

    K: Float[np.ndarray, "a n"]
    k: Float[np.ndarray, "a"]

    def __call__(self, observation: Float[np.ndarray, "n"]) -> Float[np.ndarray, "a"]:
        """Return the action, `(a,)`."""
        return np.clip(self.K @ observation + self.k, -1, 1)


def read(environment: str, quality: str) -> Controller:
    """Return the controller of an environment and a quality, both known."""
    text = (FOLDER / f"{environment}.json").read_text(encoding="ascii")
    found = json.loads(text)["controllers"][quality]
    return Controller(np.array(found["K"]), np.array(found["k"]))
