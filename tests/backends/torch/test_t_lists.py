"""Draws from a t_list on PyTorch: narrow dtypes, graphs that do not grow with the list, and the table on a device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

import fastgen_rf as rf
from fastgen_rf._draws import Index
from fastgen_rf.backends import _torch_tensors

T_LIST = (1.0, 0.75, 0.5, 0.25, 0.0)


def test_the_boundaries_are_the_quotients_i_over_k_to_the_last_bit() -> None:
    for k in (1, 2, 3, 49, 1000, 1999):
        draws = Index(k)
        quotients = np.array([0.0, *draws.boundaries, 1.0])
        u = np.concatenate([quotients, np.nextafter(quotients, -1.0)[1:], np.nextafter(quotients, 2.0)[:-1]])
        index = _torch_tensors.index_of(torch.from_numpy(u), draws.boundaries)
        assert np.array_equal(index.numpy(), np.searchsorted(quotients[1:-1], u, side="right"))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_float8_entries_come_with_their_index(dtype: torch.dtype) -> None:
    t, index = rf.sample_from_t_list(64, T_LIST, rng=0, xp=torch, dtype=dtype, return_index=True)
    assert (t.dtype, index.dtype) == (dtype, torch.int32)
    assert t.float().tolist() == [T_LIST[i] for i in index.tolist()]


def test_a_compiled_graph_does_not_grow_with_the_list_and_lists_may_change() -> None:
    sizes = []

    def counting(module: Any, example: Any) -> Any:
        sizes.append(len(module.graph.nodes))
        return module

    for k in (4, 200):
        t_list = rf.make_t_list(k)

        def draw(t_list: Any = t_list) -> Any:
            return rf.sample_from_t_list(64, t_list, xp=torch, return_index=True)

        torch.manual_seed(4)
        compiled = torch.compile(draw, fullgraph=True, backend=counting)()
        torch.manual_seed(4)
        assert all(map(torch.equal, compiled, draw()))
    assert sizes[0] == sizes[1]


def test_each_sample_of_a_vmap_draws_its_own_entry() -> None:
    draw = torch.func.vmap(
        lambda x: rf.sample_from_t_list(50, T_LIST, xp=torch, return_index=True), randomness="different"
    )
    t, index = draw(torch.zeros(3))
    assert t.shape == index.shape == (3, 50)
    assert len({tuple(row) for row in index.tolist()}) == 3
    assert torch.equal(t, torch.tensor(T_LIST)[index])


def test_an_exported_program_draws_from_a_long_list() -> None:
    class Draw(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return rf.sample_from_t_list(8, rf.make_t_list(40), device=x.device, return_index=True)

    program = torch.export.export(Draw(), (torch.zeros(3),), strict=False)
    torch.manual_seed(4)
    exported = program.module()(torch.zeros(3))
    torch.manual_seed(4)
    assert all(map(torch.equal, exported, Draw()(torch.zeros(3))))


@pytest.mark.parametrize("t_list", ["mapped", "meta"])
def test_a_t_list_without_values_is_a_type_error_that_says_that_it_is_static(t_list: str) -> None:
    with pytest.raises(TypeError, match=r"^t_list must be a sequence of floats, got (.|\n)*; t_list is static"):
        if t_list == "meta":
            rf.sample_from_t_list(3, torch.tensor(T_LIST, device="meta"), xp=torch)
        torch.func.vmap(lambda t: rf.sample_from_t_list(3, t, xp=torch))(torch.tensor([T_LIST]))


# The table on an accelerator, for which the device "meta" stands in: it has no values


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The current stream of the device, as the last item; the device keeps tables as CUDA does."""
    current = ["first stream"]
    monkeypatch.setattr(_torch_tensors, "_KEEPS_TABLES", ("meta",))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current[-1])
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    _torch_tensors._kept_table.cache_clear()
    return current


def table() -> Any:
    return _torch_tensors.table(T_LIST, torch.float32, torch.device("meta"))


def test_a_table_is_filled_from_numbers_without_a_copy_from_the_host() -> None:
    filled = _torch_tensors._filled(T_LIST, torch.float32, torch.device("cpu"))
    assert (filled.dtype, filled.tolist()) == (torch.float32, list(T_LIST))
    assert table().device.type == "meta"


def test_a_table_is_made_once_for_each_stream(streams: list[str]) -> None:
    first = table()
    assert table() is first
    streams.append("another stream")  # which might read the table before the first one has filled it
    assert table() is not first


def test_a_table_made_in_inference_mode_serves_training_later(streams: list[str]) -> None:
    with torch.inference_mode():
        table()
    assert not table().is_inference()


def test_a_table_is_not_kept_where_it_is_no_plain_tensor(streams: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    kept = table()
    with FakeTensorMode():
        assert isinstance(table(), FakeTensor)
    mapped: list[Any] = []
    torch.func.vmap(lambda x: (mapped.append(table()), x)[1])(torch.zeros(2))
    assert mapped[0] is not kept
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert table() is not kept  # a graph reads its memory at each replay, and owns it
    monkeypatch.undo()
    assert _torch_tensors._kept_table.cache_info().currsize == 1
