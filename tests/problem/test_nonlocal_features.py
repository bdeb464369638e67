"""Non-local feature maps and dense stacks against torch's own layers.

Also the networks that they contain.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import dnlcontrol as dnl
from dnlcontrol.backends.adjoint.evaluator import Evaluator
from dnlcontrol.certificates.taylor import random_control

F = torch.nn.functional
EPS = np.finfo(float).eps


class Controls:
    """Controls by attribute, for a formula that is called by hand."""

    def __init__(self, **entries):
        self.__dict__.update(entries)


def tensor(a):
    return torch.as_tensor(np.array(a))


# -- what dense networks contain -----------------------------------------------------------------
@pytest.mark.parametrize("depth", [1, 7, 32])
def test_form_a_with_weights_of_the_source_alone_is_a_residual_network(depth):
    """x^{l+1} = x^l + τ W^l F(x^l): the two add the same L terms in another order.

    The rounding is L·eps times states of size 1.
    """
    rng = np.random.default_rng(0)
    x0, W = rng.standard_normal((5, 3)), rng.standard_normal((depth, 3, 3))
    dense = dnl.ControlProblem(x0=x0, dynamics=dnl.Dense(3, form="A", bias=False))
    full = np.concatenate([np.broadcast_to(W[s], (depth - s, 3, 3)) for s in range(depth)])
    x = dnl.simulate(dense, depth, {"W": full})
    expected = x0
    for l in range(depth):
        expected = expected + np.tanh(expected) @ W[l].T / depth
    np.testing.assert_allclose(x[-1], expected, rtol=1e-14, atol=1e-14)


def test_form_c_with_weights_of_the_source_alone_is_the_resnet_dynamics():
    rng = np.random.default_rng(1)
    L, x0 = 16, rng.standard_normal((4, 2))
    K, b = rng.standard_normal((L, 2, 2)), rng.standard_normal((L, 2))
    full = {
        k: np.concatenate([np.broadcast_to(v[s], (L - s, *v.shape[1:])) for s in range(L)])
        for k, v in (("W", K), ("b", b))
    }
    dense = dnl.simulate(dnl.ControlProblem(x0=x0, dynamics=dnl.Dense(2, form="C")), L, full)
    resnet = dnl.simulate(dnl.ControlProblem(x0=x0, dynamics=dnl.ResNet(2)), L, {"K": K, "b": b})
    np.testing.assert_allclose(dense, resnet, rtol=1e-14, atol=1e-14)


# -- attention -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("tokens", "channels", "heads"), [(1, 1, 1), (5, 4, 1), (3, 6, 3), (4, 4, 4)]
)
@pytest.mark.parametrize(("flat", "causal"), [(False, False), (True, False), (False, True)])
def test_attention_is_torchs_scaled_dot_product_attention(tokens, channels, heads, flat, causal):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((tokens, channels))
    u = {k: rng.standard_normal((channels, channels)) for k in "QKVO"}
    q, k, v = (tensor(x @ u[name]).view(tokens, heads, -1).transpose(0, 1) for name in "QKV")
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(0, 1)
    expected = expected.reshape(tokens, channels).numpy() @ u["O"]
    got = dnl.Attention(tokens, channels, heads, causal)(
        0.0, x.ravel() if flat else x, Controls(**u)
    )
    np.testing.assert_allclose(got, expected.ravel() if flat else expected, rtol=1e-12, atol=1e-12)


def test_normalisation_is_torchs_layer_norm():
    from dnlcontrol.problem.dynamics.attention import normalised

    x = np.random.default_rng(3).standard_normal((4, 6))
    np.testing.assert_allclose(
        normalised(x), F.layer_norm(tensor(x), (6,)).numpy(), rtol=1e-12, atol=1e-12
    )


def test_transformer_with_depth_weights_one_is_the_residual_stack():
    rng = np.random.default_rng(4)
    x0 = rng.standard_normal((3, 4, 2))
    paths = {k: dnl.smooth_random(5) for k in ("Q", "K", "V", "O", "M", "m", "N")}
    stacks = [
        dnl.DenseTransformer(4, 2, 2, hidden=3, normalise=True, depth_weights=w)
        for w in (True, False)
    ]
    problems = [dnl.ControlProblem(x0=x0, dynamics=s) for s in stacks]
    assert not problems[0].markov
    assert problems[1].markov
    x, y = (dnl.simulate(p, 9, paths) for p in problems)
    np.testing.assert_allclose(x, y, rtol=1e-13, atol=1e-13)


def test_causal_tokens_do_not_read_later_ones():
    """Neither along the stack nor in its derivatives.

    The last token's start moves only the last token, exactly.
    """
    rng = np.random.default_rng(12)
    x0 = rng.standard_normal((3, 4, 2))
    stack = dnl.DenseTransformer(4, 2, hidden=3, normalise=True, causal=True)
    moved = x0.copy()
    moved[:, -1] += 1.0
    paths = {k: dnl.smooth_random(5) for k in stack.own_controls}
    x, y = (
        dnl.simulate(dnl.ControlProblem(x0=start, dynamics=stack), 6, paths)
        for start in (x0, moved)
    )
    np.testing.assert_array_equal(x[:, :, :-1], y[:, :, :-1])
    assert np.abs(x[-1, :, -1] - y[-1, :, -1]).min() > 1e-3


# -- convolution ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("size", "kernel"), [((5,), 3), ((2,), 5), ((4, 3), 3), ((1, 4), 3), ((3, 2), 5), ((2, 2), 1)]
)
def test_patches_give_torchs_convolution(size, kernel):
    """One matrix product of at most 2·25 terms on each side."""
    rng = np.random.default_rng(6)
    into, out = 2, 3
    x = rng.standard_normal((int(np.prod(size)), into))
    weight = rng.standard_normal((out, into, *[kernel] * len(size)))
    convolve = F.conv1d if len(size) == 1 else F.conv2d
    expected = convolve(tensor(x.T.reshape(1, into, *size)), tensor(weight), padding=kernel // 2)[
        0
    ].numpy()
    flat = np.moveaxis(weight, 1, -1).reshape(out, -1)  # offsets first, then channels
    got = dnl.Patches(size, into, kernel)(x) @ flat.T
    np.testing.assert_allclose(got, expected.reshape(out, -1).T, rtol=1e-12, atol=1e-12)
    states = rng.standard_normal((3, *x.shape))
    patches = dnl.Patches(size, into, kernel)
    # copies of entries
    np.testing.assert_array_equal(patches.of_all(tensor(states)), [patches(a) for a in states])


def test_densenet_layer_is_a_convolution_of_the_concatenation():
    rng = np.random.default_rng(7)
    size = (3, 4)
    c = 2
    L = 5
    x0 = rng.standard_normal((2, 12, c))
    W = rng.standard_normal((L * (L + 1) // 2, c, 9 * c))
    b = rng.standard_normal((L + 1, c))
    problem = dnl.ControlProblem(x0=x0, dynamics=dnl.DenseNet(size, c))
    x = dnl.simulate(problem, L, {"W": W, "b": b})
    layout = dnl.discretise(problem, L).space.blocks["W"].layout

    def image(a):
        return tensor(np.moveaxis(a, -1, -2).reshape(2, c, *size))

    for l in range(1, L + 1):
        stacked = torch.cat([image(x[s]) for s in range(l)], dim=1)
        weight = np.stack(
            [W[layout.index(l, s)].reshape(c, 3, 3, c).transpose(0, 3, 1, 2) for s in range(l)],
            axis=1,
        )
        out = F.conv2d(stacked, tensor(weight.reshape(c, l * c, 3, 3)) / L, tensor(b[l]), padding=1)
        expected = x0 + np.tanh(out.numpy().reshape(2, c, 12).transpose(0, 2, 1))
        np.testing.assert_allclose(x[l], expected, rtol=1e-12, atol=1e-12)


def test_convolution_feature_starts_as_the_identity():
    x = np.random.default_rng(8).standard_normal((6, 2))
    feature = dnl.Convolution((2, 3), 2, activation=dnl.identity)
    u = Controls(F=feature.controls["F"].initial, f=np.zeros(2))
    np.testing.assert_array_equal(feature(0.0, x, u), x)


# -- derivatives, backends -----------------------------------------------------------------------
def stack(name):
    rng = np.random.default_rng(9)
    attention, convolution = dnl.Attention(2, 2, 2), dnl.Convolution((2, 2), 1)
    dynamics, shape = {
        "Dense A, attention": (
            dnl.Dense(4, "A", feature=attention, feature_controls=attention.controls),
            (4,),
        ),
        "Dense B, convolution": (
            dnl.Dense(4, "B", feature=convolution, feature_controls=convolution.controls),
            (4,),
        ),
        "transformer": (dnl.DenseTransformer(2, 2, 2, hidden=2), (2, 2)),
        "transformer, causal": (dnl.DenseTransformer(2, 2, 2, hidden=2, causal=True), (2, 2)),
        "transformer, normalised": (dnl.DenseTransformer(2, 3, hidden=2, normalise=True), (2, 3)),
        "DenseNet B": (dnl.DenseNet((2, 2), 1), (4, 1)),
        "DenseNet C": (dnl.DenseNet((3,), 1, form="C"), (3, 1)),
    }[name]
    x0 = rng.standard_normal((2, *shape))
    penalties = [dnl.H1(k, 0.1) for k in dynamics.own_controls]
    loss = dnl.losses.squared(0.5 * x0)
    return dnl.ControlProblem(x0=x0, dynamics=dynamics, terminal=loss, regularisers=penalties)


STACKS = ["Dense A, attention", "Dense B, convolution", "transformer", "DenseNet B", "DenseNet C"]


@pytest.mark.parametrize("name", [*STACKS, "transformer, normalised", "transformer, causal"])
def test_stacks_agree_with_the_reference_and_pass_the_taylor_test(name):
    problem = stack(name)
    discrete = dnl.discretise(problem, 3)
    w = random_control(discrete, np.random.default_rng(10))
    assert Evaluator(discrete).value(w) == pytest.approx(discrete.value(w), rel=1e-13)
    assert Evaluator(discrete, batched=False).value(w) == pytest.approx(
        discrete.value(w), rel=1e-13
    )
    test = dnl.taylor_test(problem, 3)
    assert test.passed, test


@pytest.mark.parametrize("form", ["B", "C"])
def test_densenets_own_product_has_the_derivatives_of_the_formula(form):
    """Sums of 4·9·2 products in another order, over 5 layers with states of size 1."""
    rng = np.random.default_rng(11)
    x0 = rng.standard_normal((7, 12, 2))
    problem = dnl.ControlProblem(
        x0=x0, dynamics=dnl.DenseNet((3, 4), 2, form=form), terminal=dnl.losses.squared(x0)
    )
    discrete = dnl.discretise(problem, 5)
    w = random_control(discrete, rng)
    (value, g), (expected, h) = (
        Evaluator(discrete, batched=b).value_and_gradient(w) for b in (True, False)
    )
    assert value == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(g, h, rtol=0, atol=1e-13 * np.abs(h).max())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x: 2 * x, r"Wrong.batched_feature: got values that differ from the formula"),
        (
            lambda x: x[:, 1:],
            r"Wrong.batched_feature: got a result of shape .*\(s, x \(n, \*\), u\) -> \(n, \*y\)",
        ),
        (lambda x: x.nothing, r"Wrong.batched_feature: got AttributeError"),
        (lambda x: x.numpy(), r"Wrong.batched_feature: got ndarray"),
    ],
)
def test_a_wrong_feature_map_over_samples_is_named(wrong, message):
    class Wrong(dnl.DenseNet):
        def batched_feature(self, s, x, u):
            return wrong(super().batched_feature(s, x, u))

    problem = dnl.ControlProblem(x0=np.ones((2, 4, 1)), dynamics=Wrong((2, 2), 1))
    with pytest.raises(dnl.InputError, match=message):
        Evaluator(dnl.discretise(problem, 2))


@pytest.mark.parametrize("name", ["Dense A, attention", "DenseNet B", "transformer, causal"])
def test_backends_agree(name):
    problem = stack(name)
    adjoint, exact = (dnl.solve(problem, 2, backend) for backend in ("adjoint", "exact"))
    assert adjoint.success
    assert exact.success
    # both stationary to 1e-8 in the dual norm: values differ by the square of that over the
    # curvature 0.1
    assert adjoint.value == pytest.approx(exact.value, abs=1e-13 + EPS * abs(exact.value) * 100)


@pytest.mark.parametrize("name", STACKS)
def test_solutions_are_certified_and_become_networks(name):
    problem = stack(name)
    solution = dnl.solve(problem, 3, "adjoint")
    assert solution.success, solution.message
    certificate = dnl.certify(solution)
    assert certificate.passed, certificate
    network = solution.to_module()
    # the same operations in the same order, up to a batch axis: three layers of O(1) rounding
    np.testing.assert_allclose(
        network(tensor(problem.x0)).detach(), solution.states[-1], atol=1e-13
    )


@pytest.mark.parametrize("name", ["Dense A, attention", "transformer"])
def test_values_and_minimisers_converge_with_the_depth(name):
    """Under H¹ on every control.

    The rate 1 of smooth minimisers from three levels alone, hence the band.
    """
    study = dnl.study(stack(name), [4, 8, 16], max_iterations=60)
    assert study.success
    assert not study.jumps
    assert study.rates["value"] == pytest.approx(1.0, abs=0.2)
    assert study.rates["controls_L2"] == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: dnl.Attention(3, 4, 3),
            r"Attention.heads: got 3; allowed: a divisor of channels = 4",
        ),
        (lambda: dnl.Attention(2, 4, causal=1), r"Attention.causal: got 1; allowed: True or False"),
        (lambda: dnl.Attention(0, 4), r"Attention.tokens: got 0; allowed: an integer >= 1"),
        (lambda: dnl.Patches((2, 2), 1, 2), r"Patches.window: got 2; allowed: an odd number"),
        (
            lambda: dnl.Patches((2, 2, 2), 1),
            r"Patches.size: got \(2, 2, 2\); allowed: a tuple of at most two integers",
        ),
        (lambda: dnl.DenseNet((2,), 1, form="A"), r"DenseNet.form.*'A'"),
        (lambda: dnl.DenseTransformer(2, 2, hidden=-1), r"DenseTransformer.hidden: got -1"),
        (lambda: dnl.DenseTransformer(2, 2, normalise=1), r"DenseTransformer.normalise"),
        (
            lambda: dnl.ControlProblem(x0=np.ones((1, 3, 2)), dynamics=dnl.DenseTransformer(2, 2)),
            r"a state of shape \(3, 2\); allowed: \(2, 2\) or \(4,\)",
        ),
        (
            lambda: dnl.ControlProblem(x0=np.ones((1, 3, 2)), dynamics=dnl.DenseNet((2,), 2)),
            r"a state of shape \(3, 2\); allowed: \(2, 2\) or \(4,\)",
        ),
    ],
)
def test_bad_sizes_are_named(make, message):
    with pytest.raises((dnl.InputError, dnl.InputTypeError), match=message):
        make()
