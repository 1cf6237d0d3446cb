"""What a part of the quality report hands in, and how it is written down."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Plot:
    """Bars: groups by name, each with values by series. Written as ``<name>.png`` where matplotlib is installed."""

    name: str
    title: str
    bars: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Section:
    """One part of the report: a title, Markdown, the same as data, and plots."""

    title: str
    markdown: str
    data: Mapping[str, Any]
    plots: Sequence[Plot] = field(default_factory=list)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write(sections: Sequence[Section], about: Mapping[str, str], folder: Path) -> Path:
    """Write ``report.md``, ``report.json`` and the plots. The path of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["# Quality", "", table(["what", "which"], [[key, value] for key, value in about.items()]), ""]
    for section in sections:
        lines += [f"## {section.title}", "", section.markdown.rstrip(), ""]
        lines += [f"![{plot.title}]({plot.name}.png)\n" for plot in section.plots if _drawn(plot, folder)]
    data = {"about": dict(about), **{section.title: section.data for section in sections}}
    (folder / "report.json").write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
    report = folder / "report.md"
    report.write_text("\n".join(lines).rstrip() + "\n")
    return report


def _drawn(plot: Plot, folder: Path) -> bool:
    """Draw a plot; ``False`` where there is nothing to draw with."""
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    series = list(next(iter(plot.bars.values())))
    width = 0.8 / len(series)
    figure, axes = plt.subplots(figsize=(9, 1 + 0.4 * len(plot.bars)))
    for number, name in enumerate(series):
        places = [at + number * width for at in range(len(plot.bars))]
        axes.barh(places, [values[name] for values in plot.bars.values()], width, label=name)
    axes.set_yticks([at + 0.4 - width / 2 for at in range(len(plot.bars))], list(plot.bars))
    axes.invert_yaxis()
    axes.set_title(plot.title)
    axes.legend()
    figure.tight_layout()
    figure.savefig(folder / f"{plot.name}.png", dpi=120)
    plt.close(figure)
    return True
