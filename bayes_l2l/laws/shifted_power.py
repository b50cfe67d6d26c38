"""The shifted power law between two losses (Eq. 9 of arXiv 2411.12925), which composes and inverts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ShiftedPowerLaw:
    """L1 = K (L0 - E0)^kappa + E1 between two losses (Eq. 9 of arXiv 2411.12925).

    Attributes
    ----------
    K, kappa : float or array
        Scale (nats^(1-kappa)) and exponent, positive.
    E0, E1 : float or array
        Irreducible entropies of the source's and the target's loss (nats/token).
    """

    K: Any
    kappa: Any
    E0: Any
    E1: Any

    def __call__(self, loss: Any) -> Any:
        """Target's loss at a source's loss above E0 (nats/token; NaN below E0)."""
        return self.K * (loss - self.E0) ** self.kappa + self.E1

    def inverse(self) -> ShiftedPowerLaw:
        """The relation read backwards: exponent 1/kappa, scale K^(-1/kappa)."""
        return ShiftedPowerLaw(K=self.K ** (-1 / self.kappa), kappa=1 / self.kappa, E0=self.E1, E1=self.E0)

    def then(self, following: ShiftedPowerLaw) -> ShiftedPowerLaw:
        """This relation followed by another (the middle entropies must be the same one).

        kappa = kappa_2 kappa_1 and K = K_2 K_1^kappa_2.
        """
        return ShiftedPowerLaw(
            K=following.K * self.K**following.kappa,
            kappa=following.kappa * self.kappa,
            E0=self.E0,
            E1=following.E1,
        )
