"""Draws from a t_list on CUDA: no synchronization, no copies from the host, capture in a CUDA graph."""

from __future__ import annotations

import torch
from tests.torch.cuda.test_cuda import no_synchronisation

import fastgen_rf as rf

T_LIST = rf.make_t_list(100)


def test_not_even_the_first_draw_waits_for_the_device() -> None:
    rng = torch.Generator("cuda").manual_seed(0)
    with no_synchronisation():
        rf.sample_from_t_list(64, T_LIST, rng=rng, return_index=True)


def test_a_graph_captures_and_replays_a_draw() -> None:
    rf.sample_from_t_list(64, T_LIST[1:], device="cuda", return_index=True)  # loads the kernels, not this table
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        t, index = rf.sample_from_t_list(64, T_LIST, device="cuda", return_index=True)
    drawn = []
    for _ in range(2):
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(t.cpu(), torch.tensor(T_LIST)[index.cpu()])
        drawn.append(index.tolist())
    assert drawn[0] != drawn[1]
