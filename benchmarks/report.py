"""What a benchmark reports: rows of what was measured, beside what is to be reached."""

from __future__ import annotations

import dataclasses
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured figure."""

    what: str
    value: float
    unit: str = ""
    limit: float | None = None
    """The figure to reach: at most this, or at least, as `least` says; None for what is only shown."""
    least: bool = False

    @property
    def holds(self) -> bool | None:
        """Whether the figure is reached; None if there is none to reach."""
        if self.limit is None:
            return None
        return self.value >= self.limit if self.least else self.value <= self.limit


@dataclasses.dataclass(frozen=True)
class Report:
    """The answer to one benchmark's question."""

    name: str
    question: str
    rows: tuple[Row, ...]

    def table(self) -> str:
        """The rows for a terminal."""
        width = max(len(row.what) for row in self.rows)
        lines = [f"{self.name}: {self.question}"]
        for row in self.rows:
            line = f"  {row.what:<{width}}  {_number(row.value):>10} {row.unit:<6}"
            if row.limit is not None:
                line += f"  {'>=' if row.least else '<='} {_number(row.limit)}  {'ok' if row.holds else 'MISSED'}"
            lines.append(line.rstrip())
        return "\n".join(lines)


def median_ratio(ours: Iterable[float], theirs: Iterable[float]) -> float:
    """The median of the ratios round by round: noise that hits a round hits both sides of its ratio."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e9:  # beyond it a float's digits are noise
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"  # four digits are enough
