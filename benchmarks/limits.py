"""What this machine can do at best: matrix products and memory reads; and the floors of decoding and training.

    python benchmarks/limits.py [--model FOLDER] [--threads N] [--device cuda] [--out FILE]

Each figure is the best of several tries, since a limit is what nothing else disturbed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from speed_floors import Shape, decoding_flops, training_floor
from speed_layouts import layouts, random_tensor
from speed_machine import cores, fastest, machine, slug, write_json
from speed_options import BASELINES, SMOLLM2

from rairl_lightning.evaluation.provenance import commit

GEMMS = (
    (512, 576, 1536),
    (2048, 576, 576),
    (2048, 576, 1536),
    (2048, 1536, 576),
    (512, 576, 49152),
    (2048, 2048, 2048),
)
BYTES_READ = 512 * 2**20


def gemm_rates(device: str, shapes: Sequence[tuple[int, int, int]], budget: float) -> list[dict[str, Any]]:
    """Operations a second of ``[m, k] · [k, n]``, by shape and layout."""
    rows = []
    for m, k, n in shapes:
        x, weight = random_tensor(device, m, k), random_tensor(device, n, k)
        for name, layout in layouts(device).items():
            product = layout(weight)
            best = fastest(lambda product=product, x=x: product(x), device, budget)
            rows.append({"m": m, "k": k, "n": n, "layout": name, "flops_per_second": 2.0 * m * k * n / best})
    return rows


def read_bandwidth(device: str, budget: float, size: int = BYTES_READ) -> float:
    """Bytes a second of reading memory once: the best of a sum and of a scalar product."""
    values = torch.ones(size // 8 * 2, device=device)
    half = len(values) // 2
    total = fastest(values.sum, device, budget)
    product = fastest(lambda: torch.dot(values[:half], values[half:]), device, budget)
    return values.numel() * values.element_size() / min(total, product)


def decoding_step(shape: Shape, rows: int, device: str, budget: float) -> dict[str, float]:
    """Seconds of the bare matrix products of one decoding step, by layout, each layer with weights of its own.

    Nothing else is done: no attention, no norm, no cache, no draw.
    """
    matrices = [matrix for _ in range(shape.layers) for matrix in shape.block] + [shape.head]
    weights = [random_tensor(device, *matrix) for matrix in matrices]
    inputs = {columns: random_tensor(device, rows, columns) for _, columns in matrices}
    taken = {}
    for name, layout in layouts(device).items():
        products = [(layout(weight), inputs[weight.shape[1]]) for weight in weights]
        step = _captured(lambda products=products: [product(x) for product, x in products], device)
        taken[name] = fastest(step, device, budget)
    return taken


def _captured(step: Callable[[], object], device: str) -> Callable[[], object]:
    """On an accelerator without the launches, as one graph."""
    if not device.startswith("cuda"):
        return step
    step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


@torch.no_grad()
def measure(
    shape: Shape,
    *,
    device: str = "cpu",
    threads: Sequence[int] | None = None,
    rows: int = 16,
    budget: float = 0.3,
    gemms: Sequence[tuple[int, int, int]] = GEMMS,
    bytes_read: int = BYTES_READ,
) -> dict[str, Any]:
    """Everything, for each number of threads.

    Args:
        shape: of the model whose floors are asked.
        device: ``cpu`` (float32) or ``cuda`` (bfloat16).
        threads: to try; None takes one and all cores.
        rows: B of a decoding step.
        budget: seconds that the tries of one figure may take; the best counts.
        gemms: ``(m, k, n)`` to try.
        bytes_read: of memory, far more than the caches hold.
    """
    torch.manual_seed(0)
    found, before = {}, torch.get_num_threads()
    for count in threads or sorted({1, cores()}):
        torch.set_num_threads(count)
        rates = gemm_rates(device, gemms, budget)
        best = max(rate["flops_per_second"] for rate in rates)
        step = decoding_step(shape, rows, device, 5 * budget)
        fastest = min(step, key=step.__getitem__)
        bandwidth = read_bandwidth(device, budget, bytes_read)
        found[str(count)] = {
            "gemm_flops_per_second": best,
            "read_bytes_per_second": bandwidth,
            "decoding_step_seconds": step,
            "decoding_layout": fastest,
            "decoding_rows": rows,
            "decoding_tokens_per_second": rows / step[fastest],
            "decoding_flops_per_second": decoding_flops(shape, rows) / step[fastest],
            "training_tokens_per_second": training_floor(shape, 2, 1, best),  # every other token a completion's
            "gemms": rates,
        }
    torch.set_num_threads(before)
    return {"threads": found, "shape": vars(shape), "machine": machine(device, max(map(int, found)))}


def at(threads: int, shape: Shape, device: str, rows: int, *, quick: bool = False) -> dict[str, Any]:
    """The limits at one number of threads.

    Args:
        threads: of the process whose figures are compared with them.
        shape: of the model.
        device: as in :func:`measure`.
        rows: of a decoding step.
        quick: try little: the figures are then of no meaning.
    """
    little: dict[str, Any] = {"budget": 0.0, "gemms": GEMMS[:1], "bytes_read": 2**20} if quick else {}
    return measure(shape, device=device, threads=[threads], rows=rows, **little)["threads"][str(threads)]


def table(limits: dict[str, Any]) -> str:
    """The few figures that matter, a line each."""
    lines = []
    for count, one in limits["threads"].items():
        step = 1e3 * one["decoding_rows"] / one["decoding_tokens_per_second"]
        lines.append(
            f"{count} threads: {one['gemm_flops_per_second'] / 1e9:.0f} GFLOP/s, "
            f"{one['read_bytes_per_second'] / 1e9:.1f} GB/s, "
            f"decoding step of {one['decoding_rows']} rows {step:.1f} ms "
            f"({one['decoding_layout']}: {one['decoding_tokens_per_second']:.0f} tokens/s), "
            f"training {one['training_tokens_per_second']:.0f} tokens/s"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=SMOLLM2, help="folder with config.json (%(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (not yet run)")
    parser.add_argument("--threads", type=int, nargs="*", help="numbers of threads (default: 1 and all cores)")
    parser.add_argument("--rows", type=int, default=16, help="rows of a decoding step (%(default)s)")
    parser.add_argument("--out", type=Path, help="JSON to write (default: baselines/limits-<machine>.json)")
    given = parser.parse_args()
    limits = measure(Shape.of(given.model), device=given.device, threads=given.threads, rows=given.rows)
    limits["commit"] = commit()
    print(table(limits))
    write_json(given.out or BASELINES / f"limits-{slug(limits['machine'])}.json", limits)


if __name__ == "__main__":
    main()
