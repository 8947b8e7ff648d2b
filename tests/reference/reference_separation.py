"""Reference of the clustered AUROC variance by loops over pairs and clusters (Obuchowski 1997, eqs. for ROC areas)."""

import numpy as np


def placements(positives, negatives):
    """Mean over the other class of 1 for a win and one half for a tie, for each positive and for each negative."""
    wins = np.array([[float(p > q) + 0.5 * float(p == q) for q in negatives] for p in positives])
    return wins.mean(axis=1), wins.mean(axis=0)


def clustered_variance(positives, negatives, positive_clusters, negative_clusters):
    ours, theirs = placements(positives, negatives)
    area = ours.mean()
    m, n = len(positives), len(negatives)
    names = sorted({*positive_clusters, *negative_clusters})
    own = [i for i in names if i in set(positive_clusters)]
    other = [i for i in names if i in set(negative_clusters)]

    def off(values, clusters, name):
        return sum(value - area for value, cluster in zip(values, clusters, strict=True) if cluster == name)

    ten = len(own) / ((len(own) - 1) * m) * sum(off(ours, positive_clusters, c) ** 2 for c in own)
    one = len(other) / ((len(other) - 1) * n) * sum(off(theirs, negative_clusters, c) ** 2 for c in other)
    both = len(names) / (len(names) - 1)
    both *= sum(off(ours, positive_clusters, c) * off(theirs, negative_clusters, c) for c in names)
    return ten / m + one / n + 2 * both / (m * n)


def hanley_mcneil(area, m, n):
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    return (area * (1 - area) + (m - 1) * (first - area**2) + (n - 1) * (second - area**2)) / (m * n)
