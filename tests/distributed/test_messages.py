"""What the processes tell each other."""

from pathlib import Path
from typing import Any

import torch
from torch import distributed

from rairl_lightning.functional import processes

CPU = torch.device("cpu")


def talk(rank: int) -> dict[str, Any]:
    distributed.init_process_group("gloo")
    grown, still = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    if rank == 1:
        grown.grad = torch.tensor([1.0, float(rank)])
    still.grad = torch.tensor([10.0 + rank], dtype=torch.float64)
    processes.sum_gradients([grown, still])
    return {
        "share": list(processes.share(7)),
        "none": list(processes.share(1)),
        "summed": processes.summed(torch.arange(3), torch.ones(2, 2)[:, 0]),
        "joined": processes.joined(torch.full((2 - rank, 2), float(rank))),
        "empty": processes.joined(torch.zeros(rank, dtype=torch.int64)),
        "total": processes.total(0.5 + rank, CPU),
        "largest": processes.largest(7 * rank, CPU),
        "agreed": processes.agreed(4.0 + rank, CPU),
        "nan": processes.total(float("nan") if rank else 1.0, CPU),
        "gradients": [grown.grad, still.grad],
    }


def test_by_hand(tmp_path: Path, runs: Any) -> None:
    first, second = runs.spread(talk, tmp_path)
    assert (first["share"], second["share"]) == ([0, 1, 2], [3, 4, 5, 6])
    assert (first["none"], second["none"]) == ([], [0])
    for told in (first, second):
        assert told["summed"][0].tolist() == [0, 2, 4] and told["summed"][1].tolist() == [2, 2]
        assert told["joined"].tolist() == [[0, 0], [0, 0], [1, 1]] and told["empty"].tolist() == [0]
        assert (told["total"], told["largest"], told["agreed"]) == (2.0, 7, 4.0)
        assert told["nan"] != told["nan"], "what is not finite anywhere is so everywhere"
        assert [one.tolist() for one in told["gradients"]] == [[1.0, 1.0], [21.0]]
