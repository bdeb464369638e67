"""What all phases of an exact solve may take together: iterations and seconds."""

from __future__ import annotations

from dnlcontrol.backends.options import Goal
from dnlcontrol.backends.watch import Deadline

ITERATIONS = 3000  # of one interior-point solve: IPOPT's own default
AFTERWARDS = 500  # for what follows it, where no max_iterations is given


class Budget:
    """Iterations and time of the interior point and everything after it.

    >>> budget = Budget.of(Goal(max_iterations=5))
    >>> budget.take(3)
    >>> budget.left, budget.over
    (2, False)
    """

    def __init__(
        self, iterations: int = ITERATIONS + AFTERWARDS, deadline: Deadline | None = None
    ) -> None:
        self.iterations = iterations
        self.deadline = deadline or Deadline()
        self._spent = 0

    @staticmethod
    def of(goal: Goal) -> Budget:
        """That of a goal, from now on."""
        most = goal.max_iterations or ITERATIONS + AFTERWARDS
        return Budget(most, Deadline.after(goal.max_seconds))

    def take(self, iterations: int = 1) -> None:
        """So many iterations were made."""
        self._spent += iterations

    def part(self, most: int) -> Budget:
        """A budget of at most so many of the iterations left, and the same time."""
        return Budget(min(most, self.left), self.deadline)

    @property
    def left(self) -> int:
        """Iterations left, at least 0."""
        return max(self.iterations - self._spent, 0)

    @property
    def over(self) -> bool:
        """Whether nothing more may be done."""
        return not self.left or self.deadline.passed

    @property
    def words(self) -> str:
        """The message of a solve that it stopped."""
        if self.deadline.passed:
            return self.deadline.words
        spent = min(self._spent, self.iterations)
        return f"stopped after {spent} iterations; raise max_iterations or start closer"
