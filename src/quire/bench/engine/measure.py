"""`quire bench engine`: many requests on one document, answered by three engines in turn."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from quire.bench.engine.arms import start_arms
from quire.bench.engine.environment import vllm_python
from quire.bench.engine.levels import make_levels
from quire.bench.engine.report import EngineReport
from quire.bench.engine.requests import make_requests
from quire.bench.engine.rounds import measure_rounds
from quire.bench.engine.summary import summarize
from quire.bench.machine import measured_again
from quire.bench.options import Options
from quire.bench.report import describe_document, describe_model
from quire.bench.workbench import open_workbench
from quire.errors import MeasurementFailed
from quire.model.kv import TORCH_DTYPES

if TYPE_CHECKING:
    from quire.bench.engine.options import EngineOptions
    from quire.bench.figures import Say


def measure_engine(options: EngineOptions, say: Say) -> EngineReport:
    """Compile the document in a directory of its own, let the arms answer from it, leave nothing behind.

    Raises:
        InvalidSetting: `vllm` names no interpreter that has it.
        MeasurementFailed: no arm measured anything. One that fails is reported, and the others go on.
    """
    if "vllm" in options.arms and options.vllm != "auto":
        vllm_python(options.vllm, options.pip_flags, say)  # refuse now what would fail after minutes
    most = max(options.levels)
    bench_options = Options(
        model=options.model,
        document=options.document,
        article=options.article,
        repeat=options.repeat,
        questions=most,
        threads=options.threads,
        work=options.work,
        sequences=most,
    )
    with open_workbench(bench_options, say) as bench, ExitStack() as held:
        requests = make_requests(bench, options.levels, options.repeat)
        arms = start_arms(bench, options, requests, held)
        found = measure_rounds(arms, requests, options, say)
        if not found.runs and not found.restarts:
            raise MeasurementFailed(
                "; ".join(f"{arm.name}: {arm.ended}" for arm in arms), hint=f"see the logs in {arms[0].log.parent}"
            )
        say("measuring the machine again")
        machine = measured_again(bench.machine, TORCH_DTYPES[bench.model.geometry.dtype])
        levels = make_levels(bench, machine, requests, options, found)
        return EngineReport(
            machine=machine,
            model=describe_model(bench),
            document=describe_document(bench),
            request={
                "tokens": requests.tokens,
                "suffix_tokens": requests.suffix_tokens(most),
                "opening_tokens": requests.opening,
            },
            repeat=options.repeat,
            arms=arms,
            levels=levels,
            restarts=found.restarts,
            kept=found.kept,
            sections=summarize(bench, requests, options, arms, found, levels),
        )
