"""Your own reward: `derive(reward, family, regulariser)` gives both levels of its problem.

- `problem`: outcomes, families, regularisers, data; `parameters`: the symbols of a reward
- `expectation`: moments of polynomials and of exponentials of quadratics; `lawful`: which moments
  a law can have
- `signs`, `embeddings`, `existence`: whether a maximum exists, and why not
- `gaussian`, `finite`: the inner solution in closed form; `outer`: the best parameters
- `derived`: what is returned; `search`, `best`: numbers of the inner and of the outer level, in
  units of their own (`standard`, `units`), with exact derivatives (`jets`)
"""

from .derive import derive
from .derived import Derived
from .problem import KL, Bits, Classes, Entropy, Gaussian, Moments, Normal, outcome

__all__ = [
    "KL",
    "Bits",
    "Classes",
    "Derived",
    "Entropy",
    "Gaussian",
    "Moments",
    "Normal",
    "derive",
    "outcome",
]
