"""Merging of the components of a mixture into units, by the criterion of `separation`.

The means and covariances of two groups, with and without drift, follow from sums over their components, which are
computed once: only the projection on the linear discriminant reads the points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .drifting_mixture import REGULARISATION, ridge_of_terms
from .separation import distance_along, linear_discriminant, merge_groups, merge_statistic
from .unit_mixture import MixtureSettings


@dataclass(frozen=True)
class _Sums:
    """Sums over the points of a group.

    Parameters
    ----------
    gram : ndarray (num_terms, num_terms)
        Of products of the terms of the design; the first term is 1, and its square sums to the number of points.
    moments : ndarray (num_terms, num_dimensions)
        Of terms times points.
    scatter : ndarray (num_dimensions, num_dimensions)
        Of products of the points.
    """

    gram: np.ndarray
    moments: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray, design: np.ndarray) -> _Sums:
        return cls(design.T @ design, design.T @ points, points.T @ points)

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(self.gram + other.gram, self.moments + other.moments, self.scatter + other.scatter)

    @property
    def size(self) -> float:
        return self.gram[0, 0]

    @property
    def mean(self) -> np.ndarray:
        return self.moments[0] / self.size

    def residuals(self, lines: np.ndarray) -> _Sums:
        """Of points minus the lines (num_terms, num_dimensions) through the terms."""
        mixed = lines.T @ self.moments
        scatter = self.scatter - mixed - mixed.T + lines.T @ self.gram @ lines
        return _Sums(self.gram, self.moments - self.gram @ lines, scatter)

    def centred(self) -> _Sums:
        """Of points and drift minus their means; the first term becomes 0."""
        of_mean = self.gram[0] / self.size
        return _Sums(
            self.gram - np.outer(self.gram[0], of_mean),
            self.moments - np.outer(of_mean, self.moments[0]),
            self.scatter - np.outer(self.moments[0], self.mean),
        )

    def covariance(self) -> np.ndarray:
        """Reduced to its diagonal where the points are too few to estimate more, as `covariance_of`."""
        scatter = self.scatter - np.outer(self.moments[0], self.mean)
        if self.size > 3 * len(scatter):
            return scatter / (self.size - 1)
        return np.diag(np.maximum(np.diag(scatter), 0.0) / self.size + 1e-6)


@dataclass(frozen=True)
class Merging:
    """Components of a mixture, merged by the criterion of `separation`.

    Parameters
    ----------
    points : ndarray (num_points, num_dimensions)
    design : ndarray (num_points, num_terms)
        1, and the drift at the time of each point where there is any.
    components : ndarray (num_points,) int
        Component of each point, -1 for none.
    times_s : ndarray (num_points,), optional
    rng : numpy.random.Generator
        Draws from large groups.
    limit : float
        Largest merge statistic of two groups that are merged.
    settings : MixtureSettings
    """

    points: np.ndarray
    design: np.ndarray
    components: np.ndarray
    times_s: np.ndarray | None
    rng: np.random.Generator
    limit: float
    settings: MixtureSettings

    def run(self, num_units: int | None) -> np.ndarray:
        """Merge until all groups are further apart than the limit, or `num_units` are left.

        Parameters
        ----------
        num_units : int | None

        Returns
        -------
        ndarray (num_points,) int
            Group of each point, -1 for none.
        """
        groups = merge_groups(
            list(self._rows),
            self._neighbours,
            self._statistic,
            self.limit if num_units is None else np.inf,
            min_groups=num_units or 1,
        )
        labels = self.components.copy()
        for group, members in groups.items():
            labels[self._rows_of(members)] = group
        return labels

    @cached_property
    def _rows(self) -> dict[int, np.ndarray]:
        """Rows of each component, in ascending order."""
        numbers = np.unique(self.components[self.components >= 0]).tolist()
        return {number: np.flatnonzero(self.components == number) for number in numbers}

    @cached_property
    def _sums(self) -> dict[int, _Sums]:
        return {number: _Sums.of(self.points[rows], self.design[rows]) for number, rows in self._rows.items()}

    def _rows_of(self, members: list[int]) -> np.ndarray:
        return np.sort(np.concatenate([self._rows[member] for member in members]))

    def _sums_of(self, members: list[int]) -> _Sums:
        total = self._sums[members[0]]
        for member in members[1:]:
            total = total + self._sums[member]
        return total

    def _neighbours(self, groups: dict[int, list[int]]) -> Iterator[tuple[int, int]]:
        """Pairs of groups whose centres are near each other."""
        keys = list(groups)
        centres = np.stack([self._sums_of(members).mean for members in groups.values()])
        distances = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
        for row, order in enumerate(distances.argsort(1)):
            for column in order[: self.settings.num_neighbours + 1]:
                if column != row:
                    yield min(keys[row], keys[column]), max(keys[row], keys[column])

    def _statistic(self, first: list[int], second: list[int]) -> float:
        rows = [self._rows_of(members) for members in (first, second)]
        one, other = self._sums_of(first), self._sums_of(second)
        lines = np.zeros((self.design.shape[1], self.points.shape[1]))
        if self.design.shape[1] > 1:
            lines = _lines_of_drift(one, other, self.settings.drift.slope_ridge)
            one, other = one.residuals(lines), other.residuals(lines)
        axis = linear_discriminant(one.mean, other.mean, one.covariance(), other.covariance())
        a, b = (self.points[own] @ axis - self.design[own] @ (lines @ axis) for own in rows)
        distance = distance_along(a, b, self.rng, self.settings.merge)
        if self.times_s is None:
            return distance
        times = (self.times_s[own] for own in rows)
        return merge_statistic(distance, *times, limit=self.limit, settings=self.settings.merge)


def _lines_of_drift(first: _Sums, second: _Sums, slope_ridge: float) -> np.ndarray:
    """Lines (2, num_dimensions) on drift that remove it from the points of two groups.

    One regression line on drift removes it from two parts of one unit. The same line would remove the distance between
    two units of which one stops firing when the other starts. So two parallel lines are fitted, too: if they improve
    the BIC, their slope is removed and their distance is kept.
    """
    both = first + second
    lines = np.linalg.solve(both.gram + np.diag(ridge_of_terms(2, slope_ridge)), both.moments)
    # the common slope is estimated from points and drift centred within each group
    within = first.centred() + second.centred()
    parallel = np.stack([np.zeros(len(within.scatter)), within.moments[1] / (within.gram[1, 1] + slope_ridge)])
    one_line, two_lines = both.residuals(lines).scatter, within.residuals(parallel).scatter
    gain = 0.5 * both.size * (_log_determinant(one_line / both.size) - _log_determinant(two_lines / both.size))
    if gain > len(within.scatter) * np.log(both.size):
        lines[1] = parallel[1]
    return lines


def _log_determinant(covariance: np.ndarray) -> float:
    return np.linalg.slogdet(covariance + REGULARISATION * np.eye(len(covariance)))[1]
