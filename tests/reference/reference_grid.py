"""Float64 / plain-loop reference of the reward grid, from its words: origin = first completion token, last always."""

import numpy as np


def reward_grid(mask, every=None, ends=None):
    grid = np.zeros_like(mask)
    for n, row in enumerate(mask):
        columns = np.flatnonzero(row)
        for count, t in enumerate(columns, start=1):
            on_interval = every is not None and count % every == 0
            on_step = ends is not None and ends[n, t]
            grid[n, t] = on_interval or on_step or t == columns[-1]
    return grid


def segment_ids(grid, mask):
    ids = np.full(mask.shape, -1, dtype=np.int64)
    for n in range(len(mask)):
        segment = 0
        for t in np.flatnonzero(mask[n]):
            ids[n, t] = segment
            segment += int(grid[n, t])
    return ids


def backfill(values, grid, mask):
    filled = np.zeros_like(values)
    for n in range(len(mask)):
        for t in np.flatnonzero(mask[n]):
            following = [g for g in np.flatnonzero(grid[n]) if g >= t]
            filled[n, t] = values[n, following[0]]
    return filled


def next_point(grid, mask):
    width = mask.shape[1]
    points = [[t for t in range(width) if grid[n, t] and mask[n, t]] for n in range(len(mask))]
    return np.array([[min([p for p in row if p >= t], default=width) for t in range(width)] for row in points])


def previous_point(points):
    width = points.shape[1]
    rows = [[t for t in range(width) if row[t]] for row in points]
    return np.array([[max([p for p in row if p < t], default=-1) for t in range(width)] for row in rows])
