"""scikit-learn estimators: a dense non-local network trained as an optimal-control problem.

Needs the extra ``data``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dnlcontrol import checks
from dnlcontrol.backends.options import Goal, MiniBatches, method_of
from dnlcontrol.discretisation.discrete import discretise
from dnlcontrol.files.turns import in_turn
from dnlcontrol.problem import activations
from dnlcontrol.problem.controls import smooth_random
from dnlcontrol.problem.dynamics import Dense
from dnlcontrol.problem.losses import Cost, Head, cross_entropy, head, squared
from dnlcontrol.problem.problem import ControlProblem
from dnlcontrol.problem.regularisers import H1, L2
from dnlcontrol.results.solution import Solution
from dnlcontrol.solving.choice import resolved_for
from dnlcontrol.solving.request import Request
from dnlcontrol.solving.solve import solve_unwarned

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data
except ImportError as error:
    raise ImportError(
        "dnlcontrol.interop.estimators needs scikit-learn >= 1.6; pip install 'dnlcontrol[data]'"
    ) from error

ACTIVATIONS = ("tanh", "relu", "leaky_relu", "sigmoid", "softplus", "identity")


class _DenseControl(BaseEstimator):
    """What classifier and regressor share: parameters, problem, solve, the network's output."""

    def __init__(
        self,
        depth: int = 8,
        *,
        form: str = "C",
        activation: str | Callable[[Any], Any] = "tanh",
        width: int | None = None,
        alpha: float = 1e-2,
        nested: bool = True,
        start_scale: float = 0.0,
        backend: str = "adjoint",
        method: str = "newton",
        max_iterations: int = 100,
        tolerance: float = 1e-6,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.depth = depth
        self.form = form
        self.activation = activation
        self.width = width
        self.alpha = alpha
        self.nested = nested
        self.start_scale = start_scale
        self.backend = backend
        self.method = method
        self.max_iterations = max_iterations
        self.tolerance = tolerance
        self.random_state = random_state

    # -- the problem
    def _dynamics(self, width: int) -> Dense:
        name = self.activation
        if isinstance(name, str):
            name = getattr(activations, checks.choice("activation", name, ACTIVATIONS))
        return Dense(width, self.form, name)

    def _problem(self, x0: np.ndarray, loss: Cost, seed: int = 0) -> ControlProblem:
        alpha, scale = (
            checks.positive("alpha", self.alpha),
            checks.non_negative("start_scale", self.start_scale),
        )
        dynamics = self._dynamics(x0.shape[1])
        started = {}
        if scale:
            guess = smooth_random(seed, scale)
            started = {k: replace(c, initial=guess) for k, c in dynamics.own_controls.items()}
        return ControlProblem(
            name=type(self).__name__,
            x0=x0,
            dynamics=dynamics,
            controls=started,
            terminal=loss,
            regularisers=[
                *(H1(k, alpha) for k in dynamics.own_controls),
                L2("head_W", alpha),
                L2("head_c", alpha),
            ],
        )

    def _lift(self, X: np.ndarray) -> np.ndarray:
        """The inputs as states: zeros fill up to ``width``."""
        width = X.shape[1] if self.width is None else checks.whole("width", self.width)
        if width < X.shape[1]:
            checks.reject("width", width, f"None, or at least the {X.shape[1]} features")
        return np.pad(X, ((0, 0), (0, width - X.shape[1])))

    def _solve(self, X: np.ndarray, loss: Callable[[Head], Cost], outputs: int) -> None:
        """Solve level by level and keep the last solution.

        Says as scikit-learn does when it has not converged.
        """
        x0 = self._lift(X)
        batched = hasattr(method_of(self.method), "batches")
        drawn = self.start_scale or batched
        seed = int(check_random_state(self.random_state).randint(2**31)) if drawn else 0
        batches = MiniBatches(seed=seed) if batched else None
        problem = self._problem(x0, loss(head(outputs, x0.shape[1])), seed)
        given = {"method": self.method, "batches": batches}
        goal = Goal(self.tolerance, self.max_iterations)
        solution, self.n_iter_ = None, 0
        for depth in levels(self.depth, self.nested):
            options, why = resolved_for(problem, depth, "left", self.backend, given)
            request = Request(options, goal, "left", "duals", why)
            solution = solve_unwarned(problem, depth, request, solution)
            self.n_iter_ += solution.nit
        assert isinstance(solution, Solution)
        self.solution_ = solution
        if not solution.success:
            warnings.warn(
                f"depth {self.depth}: {solution.message}", ConvergenceWarning, stacklevel=3
            )

    # -- the network
    def to_module(self, head: bool = True) -> Any:
        """The fitted network as a ``torch.nn.Module``.

        Lifted inputs (N, width) -> head_W x^L + head_c, or x^L.
        """
        from dnlcontrol.interop.network import Network

        check_is_fitted(self)
        controls = self.solution_.controls
        outputs, width = controls["head_W"].values.shape[1:]
        # stands for any loss with this head
        loss = squared(np.zeros((1, outputs)), head=Head(outputs, width))
        discrete = discretise(self._problem(np.zeros((1, width)), loss), self.solution_.depth)
        return Network(discrete, {k: c.values for k, c in controls.items()}, head)

    @in_turn
    def _output(self, X: ArrayLike) -> np.ndarray:
        """head_W x^L + head_c, (N, outputs)."""
        import torch

        check_is_fitted(self)
        inputs = validate_data(self, X, reset=False, dtype=np.float64)
        with torch.no_grad():
            return np.asarray(self.to_module()(torch.from_numpy(self._lift(inputs))))

    def __getstate__(self) -> Any:
        """The state without the solution's problem, as functions cannot be pickled.

        The parameters can rebuild it.
        """
        state = dict(super().__getstate__())
        if "solution_" in state:
            state["solution_"] = replace(state["solution_"], problem=None)
        return state


class DenseControlClassifier(ClassifierMixin, _DenseControl):
    """A dense non-local network with a softmax head.

        min (1/N) Σ_n cross-entropy(head_W x_n(1) + head_c, y_n)
            + (α/2) (‖W‖²_{H¹} + ‖b‖²_{H¹} + |head|²)
        form C: x(t) = x_0 + ∫_0^t σ(W(t,s) x(s) + b(t,s)) ds,    x_0 = (features, 0, ..., 0)

    Parameters
    ----------
    depth : layers L.
    form, activation : of :class:`dnlcontrol.Dense`; the activation is a name or a function.
    width : the state's length, at least the number of features; None: the number of features.
    alpha : weight of all penalties; > 0, or separable classes have no minimiser.
    nested : solve at depths L/4, L/2, L, ..., each from the prolonged solution of the one before.
    start_scale : W and b start as smooth random functions of that size; 0 starts at 0.
    random_state : of that start, and of the mini-batches of the methods "adam" and "sgd".
    backend, method, max_iterations, tolerance : as in :func:`dnlcontrol.solve`; iterations per
        level.

    Attributes
    ----------
    solution_ : the :class:`dnlcontrol.Solution`; without its problem after unpickling.
    classes_, n_features_in_, n_iter_ : as in scikit-learn.

    The features should have mean 0 and variance 1, as for other networks.

    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_iris(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), DenseControlClassifier(depth=4)).fit(X, y)
    >>> bool(model.score(X, y) > 0.95), model[-1].solution_.depth
    (True, 4)
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> DenseControlClassifier:
        """X (N, features), y (N,) of any labels.

        Raises
        ------
        InputError for fewer than two classes and for bad parameters; ValueError as scikit-learn for
        bad data.
        """
        inputs, given = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(given)
        self.classes_, labels = np.unique(given, return_inverse=True)
        count = len(self.classes_)
        if count < 2:
            checks.reject("y", f"one class, {self.classes_[0]!r}", "at least two classes")
        self._solve(inputs, lambda top: cross_entropy(labels, head=top, classes=count), count)
        return self

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """The outputs before the softmax, (N, classes).

        Of two classes the second minus the first, (N,).
        """
        scores = self._output(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """The softmax of the outputs, (N, classes)."""
        scores = self._output(X)
        powers = np.exp(scores - scores.max(1, keepdims=True))
        return np.asarray(powers / powers.sum(1, keepdims=True))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The class of the largest output, (N,)."""
        best = self._output(X).argmax(1)
        return np.asarray(self.classes_[best])


class DenseControlRegressor(RegressorMixin, _DenseControl):
    """A dense non-local network with an affine head and the squared loss.

        min (1/N) Σ_n |head_W x_n(1) + head_c - (y_n - ȳ)|²
            + (α/2) (‖W‖²_{H¹} + ‖b‖²_{H¹} + |head|²)

    Parameters and attributes as in :class:`DenseControlClassifier`; ``mean_`` is ȳ, which every
    prediction adds. The features and the targets should have variances of order 1.

    >>> import numpy as np
    >>> x = np.linspace(-1.0, 1.0, 30)[:, None]
    >>> model = DenseControlRegressor(depth=4, width=3, alpha=1e-3).fit(x, np.sin(3.0 * x[:, 0]))
    >>> bool(model.score(x, np.sin(3.0 * x[:, 0])) > 0.9)
    True
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> DenseControlRegressor:
        """X (N, features), y (N,) or (N, outputs).

        Raises
        ------
        InputError for bad parameters; ValueError as scikit-learn for bad data.
        """
        inputs, given = validate_data(
            self, X, y, dtype=np.float64, multi_output=True, y_numeric=True
        )
        values = np.asarray(given, dtype=np.float64)
        self.mean_ = values.mean(0)
        targets = (values - self.mean_).reshape(len(values), -1)
        self._solve(inputs, lambda top: squared(targets, head=top), targets.shape[1])
        return self

    def predict(self, X: ArrayLike) -> np.ndarray:
        """(N,) or (N, outputs), as the y of ``fit``."""
        values = self._output(X)
        return np.asarray((values if np.ndim(self.mean_) else values[:, 0]) + self.mean_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def levels(depth: int, nested: bool) -> list[int]:
    """The depths that are solved, last ``depth`` itself: halved while more than 2 layers remain.

    >>> levels(8, True), levels(7, True), levels(8, False)
    ([2, 4, 8], [3, 7], [8])
    """
    found = [checks.whole("depth", depth)]
    while nested and found[0] // 2 >= 2:
        found.insert(0, found[0] // 2)
    return found
