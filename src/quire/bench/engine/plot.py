"""Two pictures side by side: tokens per second and time to the first token, over the number of requests at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from quire.bench.engine.report import EngineReport

COLOURS = {"quire": "#1f6feb", "transformers": "#8a8f98", "vllm": "#d9730d"}
PANELS = (
    ("tokens_per_second", "tokens per second", "tokens_per_second"),
    ("first_token_ms_p50", "median time to the first token, ms", "first_token_ms"),
)


def draw(report: EngineReport, path: Path) -> None:
    """Write the plot to `path`, in the format that its ending names.

    Raises:
        StoreError: it cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    counts = [level.requests for level in report.levels]
    for axes, (metric, label, bound) in zip(figure.subplots(1, 2), PANELS, strict=True):
        for arm in report.arms:
            points = [(n.requests, n.medians(arm.name)[metric]) for n in report.levels if arm.name in n.runs]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", label=arm.name, color=COLOURS[arm.name])
        floors = [getattr(level.floor, bound) for level in report.levels]
        axes.plot(counts, floors, linestyle="--", color="black", linewidth=1, label="floor of this machine")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(counts)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("requests at once")
        axes.set_ylabel(label)
        axes.grid(visible=True, alpha=0.3)
    figure.axes[0].legend()
    figure.suptitle(
        f"{report.model['name']}, {report.document['tokens']:,} tokens of document; {report.machine.cpu}, "
        f"threads: {report.machine.threads}"
    )
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise StoreError.from_os(error, path) from error
