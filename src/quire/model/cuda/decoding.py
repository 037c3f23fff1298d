"""The decode step in fixed places, so that a GPU can replay it from a graph without Python.

A graph repeats launches with the arguments they were captured with. So everything that changes from step to step lies
in one buffer on the device, sent in one copy: token ids, positions, and the tables of the attention plan. A step of n
requests runs in the smallest bucket that holds them; the rest is padding that stores nothing and attends to nothing.
What does not fit a bucket's places (chains of many modules, all different) is computed as any other pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from quire.errors import ModelUnsupported
from quire.model.attention import AttentionPlan
from quire.model.cuda.attention import Launches, flat, pieces, views, wide_rows
from quire.model.cuda.tables import NARROW, even, make_tables
from quire.model.forward import spans
from quire.model.sending import send

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from quire.core import KVGeometry
    from quire.model.forward import Row
    from quire.model.loading import LoadedModel

SHARED = 8  # segments beyond one for each request that a bucket has places for
LARGEST = 512  # requests of a captured step; with more the launches no longer matter
WARM_UPS = 2  # runs before a capture: kernels are compiled, libraries take their workspaces


class StaticAttention(AttentionPlan):
    """A plan whose tables are filled anew before every step."""

    def __init__(self, geometry: KVGeometry, reach: int, launches: Launches) -> None:
        """`reach`: most keys that a token may ever see, since nobody checks when a graph is replayed."""
        self.shared, self.suffixes = [], []
        self.geometry = geometry
        self.reach = reach
        self._launches = launches

    def run(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        return self._launches.run(layer, q, k, v, scale)


class DecodeStep:
    """One token for each of up to `bucket` requests. `run` computes what `load` put in place."""

    def __init__(
        self, model: LoadedModel, bucket: int, partial: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> None:
        """`partial`: room for partial results, of a larger bucket; None: of its own."""
        geometry, device = model.geometry, model.device
        self._model = model
        self._group = model.query_heads // geometry.kv_heads
        self._pieces = pieces(geometry, device)
        self.bucket = bucket
        self._wide_rows = wide_rows(self._group, bucket, geometry)
        works = self._pieces + 2 * bucket
        wide = works if bucket * self._group > NARROW else 0
        self._rows = works * NARROW + wide * self._wide_rows
        self._sizes = {
            "targets": even(3 * bucket),
            "narrow": 8 * works,
            "wide": 8 * wide,
            "offsets": even(bucket + 1),
            "entries": even(self._rows // self._group),
            "addresses": 2 * geometry.layers * (2 * bucket + SHARED),
        }
        head = even(3 * bucket)
        self._buffer = torch.zeros(head + sum(self._sizes.values()), dtype=torch.int64, device=device)
        self._token_ids, self._positions, self._keep = self._buffer[: 3 * bucket].view(3, bucket).unbind(0)
        tables = self._buffer[head:]
        self._launches = Launches(geometry, views(tables, self._sizes), self._wide_rows)
        if partial is None:
            self._launches.make_room(self._rows, device)
        else:
            self._launches.partial, self._launches.weights = partial
        self._plan = StaticAttention(geometry, model.max_positions, self._launches)
        self.run: Callable[[], torch.Tensor] = self.compute

    @property
    def partial(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The room for partial results, which smaller buckets may use too."""
        return self._launches.partial, self._launches.weights

    def load(self, ordered: Sequence[Row], arranged: Sequence[int]) -> bool:
        """Put a step in place, in one copy. False: it does not fit, and nothing has changed.

        Args:
            arranged: where each of `ordered` stood before.
        """
        tables = make_tables(*spans(ordered), group=self._group, wide_rows=self._wide_rows, pieces=self._pieces)
        if tables.rows > self._rows or any(size > self._sizes[name] for name, size in tables.sizes().items()):
            return False
        numbers = np.zeros(even(3 * self.bucket), dtype=np.int64)
        token_ids, positions, keep = numbers[: 3 * self.bucket].reshape(3, -1)
        token_ids[: len(ordered)] = [row.token_ids[0] for row in ordered]
        positions[: len(ordered)] = [row.position for row in ordered]
        keep[np.asarray(arranged)] = np.arange(len(ordered))
        send(np.concatenate([numbers, flat(tables, self._sizes)]), self._model.device, self._buffer)
        return True

    def compute(self) -> torch.Tensor:
        """Logits [bucket, vocabulary] of what is in place, launch by launch."""
        return self._model.compute(self._token_ids[None], self._positions[None], self._plan, self._keep)[0]


class DecodeSteps:
    """The steps of a model by bucket. On a GPU all are captured at once; elsewhere they run launch by launch."""

    def __init__(self, model: LoadedModel, most: int) -> None:
        """`most`: requests at once.

        Raises:
            ModelUnsupported: the model's step cannot be captured.
        """
        self.replayed = 0  # steps, for whoever wants to know that they were
        self._model = model
        self._steps: dict[int, DecodeStep] = {}
        partial = None
        pool = torch.cuda.graph_pool_handle() if model.device.type == "cuda" else None
        for bucket in reversed(buckets(most)):  # the largest first: the others fit into its memory
            step = DecodeStep(model, bucket, partial)
            partial = partial or step.partial
            if pool is not None:
                with torch.cuda.device(model.device):
                    step.run = captured(step.compute, pool)
            self._steps[bucket] = step

    def run(self, ordered: Sequence[Row], arranged: Sequence[int]) -> torch.Tensor | None:
        """Logits in the order before they were arranged; None for what is no decode step or fits no bucket."""
        if any(len(row.token_ids) != 1 for row in ordered):
            return None
        fitting = [bucket for bucket in self._steps if bucket >= len(ordered)]
        with self._model.alone():
            if not fitting or not self._steps[min(fitting)].load(ordered, arranged):
                return None
            for row in ordered:
                for segment in row.chain:
                    if segment.gate is not None:
                        segment.gate.wait(self._model.geometry.layers - 1)
            self.replayed += 1
            return self._steps[min(fitting)].run()[: len(ordered)].clone()  # the next step writes where this one's lie


def buckets(most: int) -> list[int]:
    """Sizes of steps up to one that holds `most` requests: each graph costs time and memory, padding an eighth."""
    sizes, size = [1], 2
    while sizes[-1] < min(most, LARGEST):
        sizes.append(size)
        size = 2 * size if size < 8 else size + max(8, size // 64 * 8)
    return sizes


def captured(compute: Callable[[], torch.Tensor], pool: Any) -> Callable[[], torch.Tensor]:
    """`compute` as a graph: calling it replays the launches. Needs a GPU.

    Raises:
        ModelUnsupported: something in it needs the host, so that it cannot be replayed.
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    mode = torch.cuda.get_sync_debug_mode()
    try:
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                compute()
            torch.cuda.set_sync_debug_mode("error")  # a capture that fails half-way leaves the device in disorder
            compute()
    except RuntimeError as error:
        raise ModelUnsupported(
            f"a decode step of this model needs the host: {error}", hint="it runs without graphs, slower"
        ) from error
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
        logits = compute()

    def replay() -> torch.Tensor:
        graph.replay()
        return logits

    return replay
