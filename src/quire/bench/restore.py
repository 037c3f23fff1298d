"""`quire bench restore`: its sections, in the order of a module's life."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.bench.agreement import measure_agreement
from quire.bench.compile_speed import measure_compile
from quire.bench.decode_speed import measure_decode
from quire.bench.fetch_speed import measure_fetch
from quire.bench.first_token import measure_first_token
from quire.bench.memory import measure_memory
from quire.bench.open_speed import measure_open
from quire.bench.report import Report, describe
from quire.bench.workbench import Workbench, open_workbench

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from quire.bench.figures import Figure, Say
    from quire.bench.options import Options, Section

MEASURES: dict[Section, Callable[[Workbench], list[Figure]]] = {
    "compile": measure_compile,
    "open": measure_open,
    "fetch": measure_fetch,
    "first-token": measure_first_token,
    "decode": measure_decode,
    "memory": measure_memory,
    "agreement": measure_agreement,
}


def measure_restore(options: Options, sections: Sequence[Section], say: Say) -> Report:
    """Compile the document in a directory of its own, measure `sections`, leave nothing behind."""
    with open_workbench(options, say) as bench:
        found: dict[str, list[Figure]] = {}
        for name in sections:
            say(name)
            found[name] = MEASURES[name](bench)
        return describe(bench, found)
