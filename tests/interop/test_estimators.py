"""The scikit-learn estimators pass scikit-learn's checks and are the library's problems."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

import dnlcontrol as dnl
from dnlcontrol.interop.estimators import DenseControlClassifier, DenseControlRegressor
from problems import iris_dense

sklearn = pytest.importorskip("sklearn")
from sklearn.datasets import load_iris  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

QUICK = {"depth": 1, "max_iterations": 8, "tolerance": 1e-3}


@parametrize_with_checks([DenseControlClassifier(**QUICK)])
def test_estimator_checks(estimator, check):
    """Every check of ``sklearn.utils.estimator_checks.check_estimator``, one test each."""
    passes(estimator, check)


@pytest.mark.slow
@parametrize_with_checks([DenseControlRegressor(**QUICK)])
def test_regressor_checks(estimator, check):
    passes(estimator, check)


def passes(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)


@pytest.fixture(scope="module")
def flowers():
    X, y = load_iris(return_X_y=True)
    X = (X - X.mean(0)) / X.std(0)
    rows = np.arange(60) * len(X) // 60
    return X[rows], y[rows]


@pytest.fixture(scope="module")
def fitted(flowers):
    return DenseControlClassifier(depth=4, tolerance=1e-8).fit(*flowers)


def test_the_classifier_is_the_control_problem(flowers, fitted):
    """The value of problems/iris_dense.py, whose standardisation is that of all 150 flowers."""
    expected = None
    for L in (2, 4):
        expected = dnl.solve(iris_dense.problem(samples=60), L, "adjoint", start=expected)
    assert fitted.solution_.success
    assert fitted.solution_.value == pytest.approx(expected.value, abs=1e-12)
    assert fitted.score(*flowers) > 0.95
    scores = fitted.decision_function(flowers[0])
    top = fitted.solution_.controls
    expected_scores = (
        fitted.solution_.states[-1] @ top["head_W"].values[0].T + top["head_c"].values[0]
    )
    np.testing.assert_allclose(scores, expected_scores, rtol=0, atol=1e-12)
    assert (fitted.predict_proba(flowers[0]).argmax(1) == fitted.predict(flowers[0])).all()


def test_forms_widths_and_labels(flowers):
    """Zero padding to a larger width, forms A and B, a function as activation, words as labels."""
    X, y = flowers
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    for options in (
        {"form": "A", "width": 5},
        {"form": "B", "activation": dnl.sigmoid},
        {"width": 6, "nested": False},
    ):
        model = DenseControlClassifier(depth=2, tolerance=1e-3, **options).fit(X, names)
        assert model.score(X, names) > 0.9
        assert model.solution_.states.shape[-1] == options.get("width", 4)


def test_pickle_and_module(flowers, fitted):
    import torch

    loaded = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(
        loaded.decision_function(flowers[0]), fitted.decision_function(flowers[0])
    )
    assert loaded.solution_.problem is None
    assert fitted.solution_.problem is not None
    x = loaded.to_module(head=False)(torch.tensor(flowers[0]))
    np.testing.assert_allclose(x.detach(), fitted.solution_.states[-1], rtol=0, atol=1e-12)


def test_random_state(flowers):
    """A start of size 0.5: equal seeds give equal networks."""
    made = [
        DenseControlClassifier(
            depth=2, nested=False, start_scale=0.5, random_state=seed, max_iterations=1
        )
        for seed in (0, 0, 1)
    ]
    with pytest.warns(ConvergenceWarning):
        values = [m.fit(*flowers).solution_.value for m in made]
    assert values[0] == values[1] != values[2]


def test_mini_batches(flowers):
    """The same minimiser by another way."""
    found = DenseControlClassifier(depth=2, method="adam", random_state=0, tolerance=1e-8).fit(
        *flowers
    )
    alone = DenseControlClassifier(depth=2, tolerance=1e-8).fit(*flowers)
    assert found.solution_.value == pytest.approx(alone.solution_.value, abs=1e-12)


def test_regression_of_two_outputs():
    x = np.linspace(-1.0, 1.0, 15)[:, None]
    y = np.stack([np.sin(3.0 * x[:, 0]), x[:, 0] ** 2 + 5.0], axis=1)
    model = DenseControlRegressor(depth=2, width=3, alpha=1e-3, tolerance=1e-3).fit(x, y)
    assert model.predict(x).shape == y.shape
    assert model.score(x, y) > 0.9


def test_in_pipelines_and_searches(flowers):
    """Cross-validation and a grid search clone, fit and score.

    A start at a saddle would score a third.
    """
    model = make_pipeline(StandardScaler(), DenseControlClassifier(depth=1, tolerance=1e-3))
    assert cross_val_score(model, *flowers, cv=2).mean() > 0.85
    grid = {"densecontrolclassifier__alpha": [1e-2, 1.0]}
    assert (
        GridSearchCV(model, grid, cv=2).fit(*flowers).best_params_["densecontrolclassifier__alpha"]
        == 1e-2
    )


def test_refusals(flowers):
    X, y = flowers
    for options, text in (
        ({"width": 3}, "width: got 3; allowed: None, or at least the 4 features"),
        ({"activation": "step"}, "activation: got 'step'; allowed: 'tanh' or 'relu'"),
        ({"alpha": 0.0}, "alpha: got 0"),
        ({"depth": 0}, "depth: got 0"),
        ({"form": "D"}, "form: got 'D'"),
    ):
        with pytest.raises(ValueError, match=text):
            DenseControlClassifier(**options).fit(X, y)
    with pytest.raises(ValueError, match="y: got one class"):
        DenseControlClassifier().fit(X, np.zeros(len(X)))
    with pytest.warns(ConvergenceWarning, match="depth 2: .*stationarity"):
        DenseControlClassifier(depth=2, max_iterations=1).fit(X, y)


def test_without_sklearn():
    """The library imports without scikit-learn; the estimators say what is missing."""
    code = """
import sys
sys.modules["sklearn"] = None
from dnlcontrol import *
import dnlcontrol as dnl
try:
    dnl.DenseControlClassifier
except ImportError as error:
    assert "pip install 'dnlcontrol[data]'" in str(error), error
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
