"""One document of each length on the device: computed, restored from the host's memory, decoded behind.

    prefill      all tokens of document and question in one go, by transformers and by this engine; the faster counts
    restored     the document's KV lies in mapped files whose pages are in memory, and on the device not at all; then it
                 is brought there layer by layer while the question is computed behind it, up to its chosen token
    restoring    the same bytes alone, until the last layer is there
    on the device  the question alone, behind a document that another request has brought already
    a step       one token for each of many requests that share the document, each with a suffix of its own, until the
                 chosen tokens are on the host

Bounds: operations / product rate for the prefill, bytes / bus rate for restoring, and for a step

    (weights + (document + requests x suffix) x bytes per token) / read rate
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from quire.artifact import ArtifactWriter
from quire.bench.device.rates import Device, describe_device, settle
from quire.bench.device.report import DeviceReport
from quire.bench.device.shapes import random_model
from quire.bench.figures import Arm, Figure, alternate, at_least, at_most, milliseconds, rate, ratio
from quire.bench.floors import prefill_operations, weight_bytes
from quire.bench.reference import prefill_logits
from quire.model import GrowingKV, KVSpace, Row, forward, prefill
from quire.pool import DeviceRoom
from quire.pool.streams import open_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from quire.bench.device.options import DeviceOptions
    from quire.bench.figures import Say
    from quire.core import KVSegment
    from quire.model import LoadedModel

CHUNK = 8192  # tokens of one pass of this engine's prefill
QUESTION = 32  # tokens
SUFFIX = 64  # tokens of each request before the steps that are timed
STEPS = 32  # timed in one round
FASTER = {8192: 20.0, 32768: 50.0}  # how many times the restored first token should be faster, by tokens
RESTORE_SHARE = 0.8  # of the bus
STEP_OVER_FLOOR = {32768: 1.5}


def measure_device(options: DeviceOptions, say: Say) -> DeviceReport:
    """Measure every length, and leave nothing behind.

    Raises:
        DeviceUnavailable, StoreError.
    """
    with tempfile.TemporaryDirectory(prefix="quire-bench-", dir=options.work) as work:
        say("drawing the weights")
        model = random_model(options, Path(work))
        model.prepare_decoding(options.requests)
        stream = open_stream(model.device)
        say("measuring the device")
        device = describe_device(model.device, stream)
        room = DeviceRoom(stream, 1 << 50)
        try:
            sections = {
                f"{tokens:,} tokens": _Document(model, device, room, options, say).measure(tokens, Path(work) / "kv")
                for tokens in options.lengths
            }
        finally:
            room.close()
        replayed = model.decoder.replayed if model.decoder else 0
        return DeviceReport(device, model.facts.name, model.backend.identity, replayed, options, sections)


class _Document:
    def __init__(self, model: LoadedModel, device: Device, room: DeviceRoom, options: DeviceOptions, say: Say) -> None:
        self._model = model
        self._device = device
        self._room = room
        self._options = options
        self._say = say

    def measure(self, tokens: int, place: Path) -> list[Figure]:
        """The figures of one length. `place`: where its KV is mapped from meanwhile."""
        draw = random.Random(tokens)  # noqa: S311 - token ids, not secrets
        ids = [draw.randrange(2, self._model.vocabulary) for _ in range(tokens + QUESTION)]
        document, question = ids[:tokens], ids[tokens:]
        with ArtifactWriter(place, self._model.geometry, tokens, 0) as writer:
            self._say(f"computing {tokens:,} tokens")
            kv = self._prefilled(document)
            kv.write_to(writer.segment)
            kv.release()
            segment = writer.segment
            first = self._first_tokens(ids, segment, question)
            return [*first, *self._behind(segment, question)]

    def _first_tokens(self, ids: list[int], segment: KVSegment, question: list[int]) -> list[Figure]:
        arms: dict[str, Arm] = {
            "transformers": lambda: self._timed(lambda: self._by_transformers(ids)),
            "prefill": lambda: self._timed(lambda: self._by_prefill(ids)),
            "restored": lambda: self._timed(lambda: self._restored(segment, question)),
            "restoring": lambda: self._timed(lambda: self._restored(segment, [])),
        }
        for warm_up in arms.values():
            warm_up()
        seconds = alternate(arms, self._options.repeat, self._say)
        tokens, moved = segment.token_count, segment.token_count * self._model.geometry.bytes_per_token
        operations = prefill_operations(self._model, len(ids))
        floor = f"floor {operations / self._device.product_rate * 1e3:,.1f} ms"
        theirs = milliseconds("prefill, transformers", seconds["transformers"], note=floor)
        ours = milliseconds("prefill, this engine", seconds["prefill"], note=floor)
        bus = f"floor {moved / self._device.bus_rate * 1e3:,.1f} ms, {moved / 1e6:,.0f} MB"
        restored = milliseconds("restored from host memory, first token", seconds["restored"], note=bus)
        restoring = rate("restoring alone", moved / 1e9, seconds["restoring"], "GB/s")
        faster = min(theirs, ours, key=lambda figure: figure.value)
        wanted = FASTER.get(tokens)
        return [
            theirs,
            ours,
            restored,
            ratio("faster prefill / restored", faster, restored, target=at_least(wanted) if wanted else None),
            restoring,
            Figure(
                name="restoring, of the bus",
                value=restoring.value * 1e9 / self._device.bus_rate,
                unit="x",
                target=at_least(RESTORE_SHARE),
                note=f"the bus alone: {self._device.bus_rate / 1e9:.1f} GB/s",
            ),
        ]

    def _behind(self, segment: KVSegment, question: list[int]) -> list[Figure]:
        """What is computed behind a document that is on the device."""
        chain = self._room.lease([("document", segment)])
        arms: dict[str, Arm] = {"there": lambda: self._timed(lambda: self._answered(chain, question))}
        arms["there"]()
        there = alternate(arms, self._options.repeat, self._say)["there"]
        steps = self._steps(segment.token_count, chain)
        self._room.give_back(["document"])
        self._room.drop("document")
        return [milliseconds("on the device, first token", there), *steps]

    def _steps(self, tokens: int, chain: tuple[KVSegment, ...]) -> list[Figure]:
        """Steps of all requests behind the document's `tokens`."""
        requests, model = self._options.requests, self._model
        space = KVSpace(
            model.geometry, requests * (SUFFIX + STEPS * (self._options.repeat + 1) + 64), device=model.device
        )
        kvs = [GrowingKV(model.geometry, space=space) for _ in range(requests)]
        for number, kv in enumerate(kvs):
            forward(model, [Row(chain, kv, [2 + number % (model.vocabulary - 2)] * SUFFIX)])
        seconds = []
        for number in range(self._options.repeat + 1):
            self._say(f"round {number} of {self._options.repeat}: {requests} requests")
            seconds.append(self._timed(lambda: self._decode(chain, kvs)) / STEPS)
        step = milliseconds(f"a step of {requests} requests", seconds[1:])  # the first round warms up
        held = statistics.mean(kv.length for kv in kvs) - STEPS * self._options.repeat / 2  # half-way
        moved = weight_bytes(model) + (tokens + requests * held) * model.geometry.bytes_per_token
        floor = moved / self._device.read_rate * 1e3
        wanted = STEP_OVER_FLOOR.get(tokens)
        return [
            step,
            Figure(
                name="step / floor of bytes",
                value=step.value / floor,
                unit="x",
                target=at_most(wanted) if wanted else None,
                note=f"floor {floor:,.2f} ms: {moved / 1e9:,.1f} GB at {self._device.read_rate / 1e9:,.0f} GB/s",
            ),
            Figure(name="tokens per second", value=requests / step.value * 1e3, unit="tokens/s"),
        ]

    def _timed(self, work: Callable[[], None]) -> float:
        settle(self._model.device)
        began = time.perf_counter()
        work()
        settle(self._model.device)
        return time.perf_counter() - began

    def _prefilled(self, ids: list[int]) -> GrowingKV:
        kv = self._model.new_kv()
        kv.reserve(len(ids))
        int(prefill(self._model, (), kv, ids, CHUNK).argmax())
        return kv

    def _by_prefill(self, ids: list[int]) -> None:
        self._prefilled(ids).release()

    def _by_transformers(self, ids: list[int]) -> None:
        with self._model.reference() as hf:
            int(prefill_logits(hf, ids).argmax())

    def _restored(self, segment: KVSegment, question: list[int]) -> None:
        """Bring the document, answer `question` with one token if there is one, and take the document away again."""
        (there,) = self._room.lease([("document", segment)])
        if question:
            self._answered((there,), question)
        elif there.gate is not None:
            there.gate.wait(len(there.keys) - 1)
            settle(self._model.device)
        self._room.give_back(["document"])
        self._room.drop("document")

    def _answered(self, chain: tuple[KVSegment, ...], question: list[int]) -> None:
        """One token after `question`, chosen and on the host."""
        int(forward(self._model, [Row(chain, self._model.new_kv(), question)])[0].argmax())

    def _decode(self, chain: tuple[KVSegment, ...], kvs: list[GrowingKV]) -> None:
        tokens = [2] * len(kvs)
        for _ in range(STEPS):
            logits = forward(self._model, [Row(chain, kv, [t]) for kv, t in zip(kvs, tokens, strict=True)])
            tokens = logits.argmax(-1).tolist()
