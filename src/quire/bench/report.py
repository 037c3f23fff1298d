"""What was measured, where and on what: a table for people, one line of JSON for the rest."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from quire.bench.figures import Figure
    from quire.bench.machine import Machine
    from quire.bench.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Report:
    """A finished run. `model` and `document`: what was measured, as JSON values."""

    machine: Machine
    model: dict[str, Any]
    document: dict[str, Any]
    repeat: int
    sections: Mapping[str, Sequence[Figure]]
    benchmark: str = "restore"

    @property
    def missed(self) -> list[str]:
        """Names of the figures that did not reach their target, with their section."""
        return [f"{s}: {f.name}" for s, figures in self.sections.items() for f in figures if f.met is False]

    def to_json(self) -> str:
        """One line of JSON, all samples included."""
        document = {
            "benchmark": self.benchmark,
            "quire": version("quire"),
            "machine": asdict(self.machine),
            "model": self.model,
            "document": self.document,
            "repeat": self.repeat,
            "sections": {name: [f.to_json() for f in figures] for name, figures in self.sections.items()},
            "missed": self.missed,
        }
        return json.dumps(document, allow_nan=False)


def describe(bench: Workbench, sections: Mapping[str, Sequence[Figure]], benchmark: str = "restore") -> Report:
    """The report of what `bench` was."""
    model, document = describe_model(bench), describe_document(bench)
    return Report(bench.machine, model, document, bench.options.repeat, sections, benchmark)


def describe_model(bench: Workbench) -> dict[str, Any]:
    """The model as JSON values."""
    facts = bench.model.facts
    return {
        "name": facts.name,
        "revision": facts.revision,
        "fingerprint": facts.fingerprint,
        "dtype": facts.geometry.dtype,
        "weights": bench.model.source.weights,
        "bytes_per_token": facts.geometry.bytes_per_token,
    }


def describe_document(bench: Workbench) -> dict[str, Any]:
    """The document as JSON values."""
    return {"name": bench.subject.name, "tokens": len(bench.token_ids), "kv_bytes": bench.kv_bytes}


def print_report(report: Report, console: Console) -> None:
    """The machine in a paragraph, then one table."""
    print_circumstances(report.machine, report.model, report.document, report.repeat, console)
    print_figures(report.sections, console)


def print_circumstances(
    machine: Machine, model: Mapping[str, Any], document: Mapping[str, Any], repeat: int, console: Console
) -> None:
    """What the figures belong to, in a paragraph."""
    m = machine
    console.print(
        f"{m.cpu}, {m.cores} cores, {m.threads} {'thread' if m.threads == 1 else 'threads'}, "
        f"{m.memory_bytes / 2**30:.0f} GiB, {m.instructions}, {m.system}, {m.file_system}; "
        f"copies {m.copy_rate / 1e9:.1f} GB/s, reads {m.read_rate / 1e9:.1f} GB/s, "
        f"multiplies {m.product_rate / 1e12:.2f} Tflop/s ({m.float32_rate / 1e12:.2f} in float32)",
        f"Python {m.python}, {', '.join(f'{n} {v}' for n, v in m.libraries.items())}; {m.date}",
        f"{model['name']} in {model['dtype']}, {document['name']}: "
        f"{document['tokens']:,} tokens, {document['kv_bytes'] / 1e6:,.1f} MB of KV; medians of {repeat}",
        sep="\n",
        highlight=False,
        markup=False,
    )


def print_figures(sections: Mapping[str, Sequence[Figure]], console: Console) -> None:
    """One table, a heading per section."""
    table = Table("", "median", "target", "", "", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, figures in sections.items():
        table.add_row()
        table.add_row(Text(name, style="bold"))
        for figure in figures:
            table.add_row(*_cells(figure))
    console.print(table)


def _cells(figure: Figure) -> list[Text]:
    target = figure.target
    verdict = Text("")
    if figure.met is not None:
        verdict = Text("met", "green") if figure.met else Text("missed", "red")
    return [
        Text(figure.name),
        Text(f"{number(figure.value)} {figure.unit}", justify="right"),
        Text(f"{target.comparison} {number(target.bound)}" if target else ""),
        verdict,
        Text(figure.note, style="dim"),
    ]


def number(value: float) -> str:
    """Three digits, or all of a large number."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
