"""The search for the knee: the highest rate that a server holds.

From a guess the rate climbs in even factors until it isn't held any more (or falls until it is);
then the gap is halved, geometrically, until it is narrower than the tolerance. A rate counts as
not held only when a second try agrees, because one pause of the machine is enough to miss p99 in a
run of seconds. The search says what to try next and is told what came of it; it runs nothing, so
searches of several servers can take turns, one probe each.
"""

from typing import Optional

RATE_MIN = 50.0
RATE_MAX = 2_000_000.0


class KneeSearch:
    def __init__(self, start: float, factor: float = 1.25, tolerance: float = 1.03, tries: int = 2):
        self.rate = max(start, RATE_MIN)
        self.factor = factor
        self.tolerance = tolerance
        self.tries = tries
        self.missed = 0
        self.held: Optional[float] = None  # the highest
        self.failed: Optional[float] = None  # the lowest

    @property
    def done(self) -> bool:
        if self.held is not None and self.held >= RATE_MAX:
            return True
        if self.failed is not None and self.failed <= RATE_MIN:
            return True
        if self.held is None or self.failed is None:
            return False
        return self.failed / self.held <= self.tolerance

    def tell(self, held: bool) -> None:
        """What came of a run at `rate`; sets the next one."""
        if not held:
            self.missed += 1
            if self.missed < self.tries:
                return
        self.missed = 0
        if held:
            self.held = self.rate
        else:
            self.failed = self.rate
        if self.held is None:
            self.rate = max(RATE_MIN, self.rate / self.factor)
        elif self.failed is None:
            self.rate = min(RATE_MAX, self.rate * self.factor)
        else:
            self.rate = (self.held * self.failed) ** 0.5
