"""A finished run of `quire bench device`: a table for people, one line of JSON for the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from quire.bench.report import print_figures

if TYPE_CHECKING:
    from rich.console import Console

    from quire.bench.device.options import DeviceOptions
    from quire.bench.device.rates import Device
    from quire.bench.figures import Figure


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """`attention`: whose kernels attended. `replayed`: steps that ran from a graph, or in its places without one."""

    device: Device
    model: str
    attention: str
    replayed: int
    options: DeviceOptions
    sections: Mapping[str, Sequence[Figure]]

    @property
    def missed(self) -> list[str]:
        """Names of the figures that did not reach their target, with their section."""
        return [f"{s}: {f.name}" for s, figures in self.sections.items() for f in figures if f.met is False]

    def to_json(self) -> str:
        """One line of JSON, all samples included."""
        document = {
            "benchmark": "device",
            "quire": version("quire"),
            "torch": version("torch"),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": asdict(self.device),
            "model": self.model,
            "attention": self.attention,
            "replayed": self.replayed,
            "requests": self.options.requests,
            "repeat": self.options.repeat,
            "sections": {name: [f.to_json() for f in figures] for name, figures in self.sections.items()},
            "missed": self.missed,
        }
        return json.dumps(document, allow_nan=False)


def print_device_report(report: DeviceReport, console: Console) -> None:
    """The device in a paragraph, then one table."""
    d = report.device
    console.print(
        f"{d.name}, {d.memory_bytes / 2**30:.0f} GiB; "
        f"bus {d.bus_rate / 1e9:.1f} GB/s, reads {d.read_rate / 1e9:,.0f} GB/s, "
        f"multiplies {d.product_rate / 1e12:,.1f} Tflop/s in bfloat16; PyTorch {version('torch')}",
        f"{report.model}; attention by {report.attention}, {report.replayed} steps in fixed places; "
        f"medians of {report.options.repeat}",
        sep="\n",
        highlight=False,
        markup=False,
    )
    print_figures(report.sections, console)
