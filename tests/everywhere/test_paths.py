"""Other Gaussian paths: times and states of theirs, against 40-digit and exact rational arithmetic."""

from __future__ import annotations

import functools
import math
import warnings
from fractions import Fraction
from itertools import permutations

import mpmath
import numpy as np
import pytest

import fastgen_rf as rf

TIMES = ["rf", "angle", "sigma", "log_snr", "alpha_bar"]
STATES = ["rf", "vp", "ve"]
WITHOUT_FUNCTIONS = ["rf", "sigma", "alpha_bar"]
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # NumPy's casts to float16
HALF_ULP = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}


def every_pair(kinds):
    pairs = list(permutations(kinds, 2))
    return pytest.mark.parametrize(("source", "target"), pairs, ids=["-".join(pair) for pair in pairs])


# Times

mp = mpmath.mp.clone()
mp.dps = 40
SIGMA_TO_ALPHA = {  # tangent of the angle between data and noise, from the definition of each kind
    "rf": lambda t: t / (1 - t),
    "angle": lambda angle: mp.tan(angle),
    "sigma": lambda sigma: sigma,
    "log_snr": lambda log_snr: mp.exp(-log_snr / 2),
    "alpha_bar": lambda alpha_bar: mp.sqrt((1 - alpha_bar) / alpha_bar),
}
LABEL = {
    "rf": lambda tan: tan / (1 + tan),
    "angle": lambda tan: mp.atan(tan),
    "sigma": lambda tan: tan,
    "log_snr": lambda tan: -2 * mp.log(tan),
    "alpha_bar": lambda tan: 1 / (1 + tan * tan),
}


def exact(value, source, target):
    """A noise level of one kind as another, to 40 digits."""
    return LABEL[target](SIGMA_TO_ALPHA[source](mp.mpf(float(value))))


@functools.cache
def levels(kind):
    """Noise levels of a kind in float64, from t = 1e-12 to 1 - 1e-12, and those that its own ends hold apart."""
    rng = np.random.default_rng(0)
    near_data, near_noise = 10.0 ** rng.uniform(-12, -0.3, (2, 60))
    t = np.concatenate([near_data, 1 - near_noise, rng.uniform(0.49, 0.51, 20), [1e-12, 0.5, 1 - 1e-12]])
    if kind == "rf":
        return t
    values = np.array([float(exact(value, "rf", kind)) for value in t])
    if kind == "sigma":
        return np.concatenate([values, 10.0 ** rng.uniform(-6, 6, 60), [1e-6, 1.0, 1e6]])
    return values[values != 1] if kind == "alpha_bar" else values  # 1 is no noise at all


@functools.cache
def exact_levels(source, target):
    return [exact(value, source, target) for value in levels(source)]


def assert_within(got, wanted, ulps, source, target, unit=2.0**-52):
    """Relative error; absolute where |log_snr| < 1 of an angle, since pi/4 is rounded."""
    least = 1 if (source, target) == ("angle", "log_snr") else 0
    for value, true in zip(np.asarray(got, np.float64).ravel(), wanted, strict=True):
        assert abs(mp.mpf(float(value)) - true) <= ulps * unit * max(abs(true), least)


@every_pair(TIMES)
@pytest.mark.needs("float64")
def test_every_pair_of_times_is_right_to_a_few_units_of_float64(xp, source, target):
    got = rf.convert_time(xp.array(levels(source), "float64"), source=source, target=target)
    assert got.dtype == xp.dtype("float64")
    assert_within(xp.numpy(got), exact_levels(source, target), 3, source, target)


@every_pair(TIMES)
def test_a_float_gives_the_bits_of_a_numpy_array(source, target):
    array = rf.convert_time(levels(source), source=source, target=target)
    floats = [rf.convert_time(value, source=source, target=target) for value in levels(source).tolist()]
    assert {type(value) for value in floats} == {float}
    assert_within(floats, exact_levels(source, target), 3, source, target)
    assert np.asarray(floats) == pytest.approx(array, rel=5e-16, abs=5e-16)  # vectors and rests of loops may differ


@every_pair(TIMES)
@pytest.mark.needs("float64")
@pytest.mark.dtypes("float32", "bfloat16", "float16")
def test_a_narrow_time_is_converted_exactly_and_rounded_once(xp, dtype, source, target):
    inside = {"rf": (0.02, 0.97), "angle": (0.02, 1.5), "sigma": (0.02, 40), "log_snr": (-7, 7)}.get(
        source, (0.02, 0.98)
    )
    time = xp.array(np.linspace(*inside, 97), dtype)
    got = rf.convert_time(time, source=source, target=target)
    assert got.dtype == time.dtype
    wanted = [exact(value, source, target) for value in np.asarray(xp.numpy(time), np.float64)]
    keep = [i for i, value in enumerate(wanted) if abs(value) > 2.0**-14]  # float16's normal numbers
    assert len(keep) > 90
    values = np.asarray(xp.numpy(got), np.float64)
    errors = [abs(mp.mpf(values[i]) - wanted[i]) / abs(wanted[i]) for i in keep]
    assert max(errors) <= HALF_ULP[dtype] * (1 + 2.0**-12)


@every_pair(WITHOUT_FUNCTIONS)
@pytest.mark.needs("no float64")
def test_without_float64_arithmetic_serves_three_kinds_rounded_once(xp, source, target):
    host = levels(source).astype(np.float32)
    host = host[(host > 0) & ((host < 1) | (source == "sigma"))]
    got = rf.convert_time(xp.array(host), source=source, target=target)
    assert got.dtype == xp.dtype("float32")
    wanted = [exact(value, source, target) for value in host]
    assert_within(xp.numpy(got), wanted, 1 + 2.0**-12, source, target, HALF_ULP["float32"])


@pytest.mark.parametrize(("source", "target"), [("rf", "angle"), ("log_snr", "sigma"), ("alpha_bar", "log_snr")])
@pytest.mark.needs("no float64")
def test_without_float64_the_others_say_what_to_do(xp, source, target):
    time = xp.array(np.full(3, 0.5))
    with pytest.raises(TypeError, match=r"need float64, which device .* lacks: pass a float or a NumPy array as time"):
        rf.convert_time(time, source=source, target=target)
    assert rf.convert_time(time, source="angle", target="angle") is time


inf, nan = math.inf, math.nan
ENDS = {  # no noise, as much noise as data, no data
    "rf": (0.0, 0.5, 1.0),
    "angle": (0.0, math.pi / 4, math.pi / 2),
    "sigma": (0.0, 1.0, inf),
    "log_snr": (inf, 0.0, -inf),
    "alpha_bar": (1.0, 0.5, 0.0),
}


def expected_ends(source, target):
    if source == "angle":  # float64's pi/2 lies below pi/2
        last = {"sigma": math.tan(math.pi / 2), "log_snr": -2 * math.log(math.tan(math.pi / 2)), "alpha_bar": 0.0}
        return (*ENDS[target][:2], last.get(target, ENDS[target][2]))
    return ENDS[target]


def check_ends(xp, dtype, source, target):
    wanted, rel = expected_ends(source, target), 4e-16 if dtype == "float64" else 1e-7
    with np.errstate(divide="ignore", invalid="ignore"):  # a namespace on top of NumPy warns where it computes
        got = xp.numpy(rf.convert_time(xp.array(np.array(ENDS[source]), dtype), source=source, target=target))
    assert got.tolist() == pytest.approx(wanted, rel=rel, abs=rel)


@every_pair(TIMES)
@pytest.mark.needs("float64")
@pytest.mark.dtypes("float64", "float32")
def test_both_ends_and_the_middle_are_what_they_are_called(xp, dtype, source, target):
    check_ends(xp, dtype, source, target)


@every_pair(TIMES)
@pytest.mark.backends("numpy", "array_api_strict")
@pytest.mark.needs("float64")
def test_an_infinite_label_is_no_cause_for_a_warning(xp, source, target):
    with np.errstate(divide="raise", invalid="raise"), warnings.catch_warnings(action="error"):
        rf.convert_time(xp.array(np.array(ENDS[source]), "float64"), source=source, target=target)


@every_pair(WITHOUT_FUNCTIONS)
@pytest.mark.needs("no float64")
def test_without_float64_both_ends_are_what_they_are_called(xp, source, target):
    check_ends(xp, "float32", source, target)


@every_pair(TIMES)
def test_both_ends_and_the_middle_as_floats(source, target):
    floats = [rf.convert_time(value, source=source, target=target) for value in ENDS[source]]
    assert floats == pytest.approx(expected_ends(source, target), rel=4e-16, abs=4e-16)


@every_pair(TIMES)
@pytest.mark.needs("float64")
def test_nan_in_an_array_stays_where_it_is(xp, source, target):
    middle = ENDS[source][1]
    got = xp.numpy(rf.convert_time(xp.array(np.array([nan, middle]), "float64"), source=source, target=target))
    assert np.isnan(got).tolist() == [True, False]


@pytest.mark.dtypes("float64", "float32", "float16")
@pytest.mark.needs("float64")
def test_an_array_s_angle_is_clipped(xp, dtype):
    angles = xp.array(np.array([-0.5, 0.0, math.pi / 2, 2.0]), dtype)
    t = np.asarray(xp.numpy(rf.convert_time(angles, source="angle", target="rf")), np.float64)
    assert t == pytest.approx([0.0, 0.0, 1.0, 1.0], abs=2.0**-10 if dtype == "float16" else 1e-7)
    sigma = np.asarray(xp.numpy(rf.convert_time(angles, source="angle", target="sigma")), np.float64)
    if dtype == "float32":  # whose pi/2 lies above float64's
        assert sigma[2:] == pytest.approx(math.tan(math.pi / 2), rel=1e-7)
    assert sigma[:2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("kind", TIMES)
def test_the_same_kind_is_the_time_itself(xp, kind):
    time = xp.array(np.array([0.25, 0.5]))
    assert rf.convert_time(time, source=kind, target=kind) is time
    assert rf.convert_time(0.25, source=kind, target=kind) == 0.25


@pytest.mark.dtypes("float32")
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_times_keep_their_shape_type_and_device(xp, dtype, shape):
    time = xp.array(np.full(shape, 0.25), dtype)
    got = rf.convert_time(time, source="rf", target="sigma")
    assert type(got) is type(time)
    assert tuple(got.shape) == shape
    assert xp.device_of(got) == xp.device
    assert xp.numpy(time).ravel().tolist() == [0.25] * math.prod(shape)


@pytest.mark.parametrize(
    ("time", "source", "t"),
    [
        (np.float32(0.25), "rf", 0.25),
        (np.float64(4.0), "sigma", 0.8),
        (np.float16(np.inf), "sigma", 1.0),
        (np.float32(math.pi / 2), "angle", 1.0),
        (np.float64(math.pi / 2), "angle", 1.0),
        (
            np.float16(math.pi / 4),
            "angle",
            float(
                mp.tan(mp.mpf(float(np.float16(math.pi / 4)))) / (1 + mp.tan(mp.mpf(float(np.float16(math.pi / 4)))))
            ),
        ),
        (np.int64(4), "sigma", 0.8),
        (4, "sigma", 0.8),
        (0, "log_snr", 0.5),
        (np.int32(0), "log_snr", 0.5),
        (0, "rf", 0.0),
        (1, "alpha_bar", 0.0),
        (0, "angle", 0.0),
    ],
    ids=repr,
)
def test_numbers_of_all_sorts_are_times(time, source, t):
    got = rf.convert_time(time, source=source, target="rf")
    assert type(got) is float
    assert got == pytest.approx(t, rel=4e-16)


@pytest.mark.parametrize(
    ("source", "bad"),
    [
        *(("rf", bad) for bad in (-0.1, 1.1, nan, inf, np.float32(500))),
        *(("alpha_bar", bad) for bad in (-0.1, 1.1, nan)),
        *(("angle", bad) for bad in (-0.1, 1.570796326796, np.float32(1.5708), nan, inf)),
        *(("sigma", bad) for bad in (-0.1, nan, -inf, -1, np.int64(-1))),
        ("log_snr", nan),
        ("log_snr", np.float32(nan)),
    ],
    ids=repr,
)
def test_a_number_out_of_its_kind_s_range_is_a_value_error(source, bad):
    for target in TIMES:
        with pytest.raises(ValueError, match=r"^time must lie in"):
            rf.convert_time(bad, source=source, target=target)


@pytest.mark.parametrize(
    ("time", "source", "message"),
    [
        (500, "rf", "time must be a float in .*divide integer timesteps"),
        (2, "angle", "time must be a float or .* for source 'angle', got 2$"),
        (500, "alpha_bar", "time must be a float or .* for source 'alpha_bar', got 500$"),
        (True, "sigma", "time must be a float"),
        (1j, "log_snr", "time must be a float"),
        ("0.5", "sigma", "time must be a float or an array"),
        (None, "rf", "time must be a float or an array"),
        ([0.5], "angle", "time must be a float or an array"),
        (np.arange(3), "sigma", "time must be a real floating array, got dtype int64$"),
    ],
    ids=repr,
)
def test_what_is_no_time_is_a_type_error(time, source, message):
    with pytest.raises(TypeError, match=message):
        rf.convert_time(time, source=source, target="rf")


@pytest.mark.parametrize("bad", ["RF", "t", "", None, 3], ids=repr)
def test_an_unknown_kind_is_a_value_error_that_lists_them(xp, bad):
    x = xp.array(np.full(2, 0.5))
    for name in ("source", "target"):
        kinds = {"source": "rf", "target": "rf", name: bad}
        for time in (0.5, x):
            with pytest.raises(ValueError, match=f"^{name} must be one of rf, angle, sigma, log_snr, alpha_bar, got"):
                rf.convert_time(time, **kinds)
        with pytest.raises(ValueError, match=f"^{name} must be one of rf, vp, ve, got"):
            rf.convert_state(x, 0.5, **kinds)


# States


def norm(t):
    """The root of (1 - t)^2 + t^2 to 200 bits, as a Fraction."""
    return Fraction(math.isqrt(math.floor(((1 - t) ** 2 + t**2) * 4**200)), 2**200)


SCALE = {  # of the state alpha x_0 + sigma eps, where alpha = 1 - t and sigma = t has scale 1
    "rf": lambda t: Fraction(1),
    "vp": lambda t: 1 / norm(t),
    "ve": lambda t: 1 / max(1 - t, Fraction(1e-6)),
}
T = [0.0, 1e-5, 0.125, 1 / 3, 0.5, 0.8, 0.999, 1 - 2.0**-16]


def fractions(xp, array):
    return [Fraction(value) for value in np.asarray(xp.numpy(array), np.float64).ravel().tolist()]


@every_pair(STATES)
@pytest.mark.dtypes()
def test_every_state_is_the_exact_one_rounded_once(xp, dtype, source, target):
    x = xp.array(np.random.default_rng(0).standard_normal((len(T), 5)), dtype)
    narrow = dtype in ("bfloat16", "float16")
    t = xp.array(np.array([min(time, 0.99) if narrow else time for time in T]), dtype)
    got = rf.convert_state(x, t, source=source, target=target)
    assert got.dtype == x.dtype
    inside = Fraction(6, 2**53) if xp.has_float64 else Fraction(60, 2**48)
    times = [time for time in fractions(xp, t) for _ in range(5)]
    for value, before, time in zip(fractions(xp, got), fractions(xp, x), times, strict=True):
        wanted = before * SCALE[target](time) / SCALE[source](time)
        unit = max(abs(wanted), Fraction(2) ** -14 if dtype == "float16" else 0)
        assert abs(value - wanted) <= unit * (Fraction(HALF_ULP[dtype]) * Fraction(4097, 4096) + inside)


@every_pair(STATES)
def test_where_no_data_is_left_a_state_stays_finite(xp, source, target):
    x = xp.array(np.array([[2.0, -3.0]]))
    got = xp.numpy(rf.convert_state(x, 1.0, source=source, target=target))
    factor = {("rf", "ve"): 1e6, ("vp", "ve"): 1e6, ("ve", "rf"): 0.0, ("ve", "vp"): 0.0}.get((source, target), 1.0)
    assert got == pytest.approx(np.array([[2.0, -3.0]]) * factor, rel=1e-6)


@every_pair(STATES)
@pytest.mark.backends("numpy", "torch")
@pytest.mark.dtypes("float32", "bfloat16")
def test_large_states_have_the_bits_of_small_ones(xp, dtype, source, target):
    x = xp.array(np.random.default_rng(1).standard_normal((2, 600_000)), dtype)
    t = xp.array(np.array([0.3, 0.9]))
    whole = rf.convert_state(x, t, source=source, target=target)
    part = rf.convert_state(x[:, 1000:2000], t, source=source, target=target)
    assert np.array_equal(xp.numpy(whole)[:, 1000:2000], xp.numpy(part))


@pytest.mark.parametrize("kind", STATES)
def test_the_same_kind_is_the_state_itself(xp, kind):
    x = xp.array(np.ones((2, 3)))
    assert rf.convert_state(x, 0.5, source=kind, target=kind) is x


@pytest.mark.parametrize("target", ["rf", "vp"])
def test_arguments_of_a_state_are_checked_as_everywhere(xp, target):
    x, how = xp.array(np.ones((2, 3))), {"source": "rf", "target": target}
    with pytest.raises(TypeError, match=r"^x must be an array"):
        rf.convert_state([1.0], 0.5, **how)
    with pytest.raises(ValueError, match=r"^t must lie in \[0, 1\]"):
        rf.convert_state(x, 1.5, **how)
    with pytest.raises(ValueError, match=r"^t must have a leading part of x's shape"):
        rf.convert_state(x, xp.array(np.ones(4)), **how)


@pytest.mark.needs("float64")
def test_v_vp_is_the_velocity_of_the_vp_state_along_the_angle(xp):
    """``d/d angle (cos(angle) x_0 + sin(angle) eps)``, by differences, in TrigFlow's own state."""
    x0, eps = np.random.default_rng(2).standard_normal((2, 4, 6))
    angle, step = np.array([0.1, 0.5, 1.0, 1.5]), 1e-5

    def vp_state(angle):
        return np.cos(angle)[:, None] * x0 + np.sin(angle)[:, None] * eps

    t = rf.convert_time(xp.array(angle, "float64"), source="angle", target="rf")
    x_t = rf.convert_state(xp.array(vp_state(angle), "float64"), t, source="vp", target="rf")
    for source, pred in (("x0", x0), ("eps", eps), ("flow", eps - x0)):
        v_vp = rf.convert_prediction(xp.array(pred, "float64"), x_t, t, source=source, target="v_vp")
        slope = (vp_state(angle + step) - vp_state(angle - step)) / (2 * step)
        assert xp.numpy(v_vp) == pytest.approx(slope, abs=1e-9)
