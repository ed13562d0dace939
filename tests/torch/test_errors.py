"""PyTorch, what is refused: tensors that are not real floating, on two devices, or mixed with other arrays."""

from __future__ import annotations

import pytest
import torch

from tests.torch.plain import SMALL, Conversion, every_conversion, randn, times


@every_conversion
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64], ids=str)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_tensors_that_are_not_real_floating_raise(conversion: Conversion, dtype: torch.dtype, place: int) -> None:
    arguments = [randn(*SMALL, seed=1), randn(*SMALL, seed=2), times(4)]
    arguments[place] = arguments[place].to(dtype)
    with pytest.raises(TypeError, match="real floating array, got dtype torch"):
        conversion.ours(*arguments)


@every_conversion
def test_integer_timesteps_are_told_to_divide(conversion: Conversion) -> None:
    with pytest.raises(TypeError, match=r"divide integer timesteps \(e.g. diffusers' 0\.\.1000\) by 1000"):
        conversion.ours(randn(4, 3), randn(4, 3), torch.tensor([0, 10, 500, 999]))


@every_conversion
@pytest.mark.parametrize("place", [0, 1, 2])
def test_two_devices_raise(conversion: Conversion, place: int) -> None:
    arguments = [randn(*SMALL, seed=1), randn(*SMALL, seed=2), times(4)]
    arguments[place] = arguments[place].to("meta")
    with pytest.raises(ValueError, match=r"must be on one device, got .*(cpu and meta|meta and cpu)"):
        conversion.ours(*arguments)


@every_conversion
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_numpy_array_among_tensors_raises(conversion: Conversion, place: int) -> None:
    arguments = [randn(*SMALL, seed=1), randn(*SMALL, seed=2), times(4)]
    arguments[place] = arguments[place].numpy()
    with pytest.raises(TypeError, match="must come from one framework"):
        conversion.ours(*arguments)


@every_conversion
@pytest.mark.parametrize("shape", [(3,), (4, 5), (4, 3, 5, 7, 1), (5, 7)], ids=str)
def test_a_t_that_does_not_fit_raises(conversion: Conversion, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="t must have a leading part of"):
        conversion.ours(randn(*SMALL, seed=1), randn(*SMALL, seed=2), times(*shape))


@every_conversion
def test_arrays_of_two_shapes_raise(conversion: Conversion) -> None:
    with pytest.raises(ValueError, match="must have the same shape"):
        conversion.ours(randn(4, 3), randn(4, 1), times(4))
