"""A model by directory, GGUF file or Hub name: resolved to a directory, identified, loaded, run."""

from __future__ import annotations

import contextlib
import copy
import json
import threading
import weakref
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from quire.core import KVGeometry
from quire.errors import ModelNotFound, ModelUnreadable, ModelUnsupported, QuireError, lack_of
from quire.model.attention import ATTENTION_NAME, CURRENT_PLAN, AttentionPlan, attend
from quire.model.backends import Backend, choose_backend
from quire.model.default import DEFAULT_MODEL, default_model, gguf_model
from quire.model.devices import find_device
from quire.model.files import ModelFiles
from quire.model.fingerprint import model_fingerprint, tokenizer_fingerprint
from quire.model.host_memory import HostMemory
from quire.model.kv import TORCH_DTYPES, GrowingKV
from quire.model.support import check_supported
from quire.model.twin import shortened, twin
from quire.tokenizer import TextTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from quire.model.cuda import DecodeSteps


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a module must agree with before it may be used.

    `name`, `revision`: as the model was asked for. `architecture`: from its configuration, e.g. ``llama-30x576`` for
    30 layers of width 576; the same wherever the model lies and whatever its directory is called.
    """

    name: str
    revision: str
    architecture: str
    fingerprint: str
    tokenizer_fingerprint: str
    geometry: KVGeometry
    max_positions: int
    vocabulary: int
    rope: dict[str, Any]


class ModelSource:
    """A model on disk, identified but not loaded: enough for keys, token counts and dry runs."""

    def __init__(self, name: str, directory: Path, revision: str, dtype: str, weights: str = "auto") -> None:
        """`weights`: see `choose_backend`; rounded ones make another model, with a fingerprint of its own.

        Raises:
            ModelUnreadable, ModelUnsupported.
        """
        from transformers import AutoConfig

        self.directory = directory
        self.weights = weights
        try:
            self.files = ModelFiles(directory)
        except OSError as error:
            raise ModelUnreadable(
                f"cannot read the model in {directory}: {error.strerror}", hint="check the rights of its files"
            ) from error
        with _reading(
            f"{directory} has no model configuration that transformers can read",
            hint="the directory needs a config.json of a causal language model",
        ):
            self.config = AutoConfig.from_pretrained(directory, local_files_only=True)
            check_supported(self.config)
        self.dtype = _resolve_dtype(self.config, dtype)
        geometry = _geometry(self.config, self.dtype)
        self.facts = ModelFacts(
            name=name,
            revision=revision,
            architecture=f"{self.config.model_type}-{self.config.num_hidden_layers}x{self.config.hidden_size}",
            fingerprint=model_fingerprint(directory, self.dtype if weights == "auto" else f"{self.dtype}+{weights}"),
            tokenizer_fingerprint=tokenizer_fingerprint(directory),
            geometry=geometry,
            max_positions=int(self.config.max_position_embeddings),
            vocabulary=int(self.config.vocab_size),
            rope=dict(self.config.rope_parameters),
        )
        self._tokenizer: TextTokenizer | None = None

    @property
    def tokenizer(self) -> TextTokenizer:
        """The tokenizer, read on first use."""
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            with _reading(
                f"the tokenizer in {self.directory} does not load",
                hint="the model directory needs the tokenizer's files",
            ):
                tokenizer = AutoTokenizer.from_pretrained(self.directory, local_files_only=True)
                eos_ids = _eos_ids(self.directory, self.config, tokenizer)
            self._tokenizer = TextTokenizer(tokenizer, eos_ids)
        return self._tokenizer

    def load(
        self,
        *,
        device: str = "cpu",
        threads: int | None = None,
        kernels: str = "auto",
        memory: HostMemory = HostMemory(),  # noqa: B008 - frozen
    ) -> LoadedModel:
        """Read the weights.

        Args:
            threads: cores for one operation; None keeps the library's choice.
            kernels: see `choose_backend`.
            memory: whether weights stay mapped, and what guards them then.

        Raises:
            ModelUnreadable, ModelUnsupported, KernelsUnavailable, DeviceUnavailable.
        """
        from transformers import AttentionInterface, AutoModelForCausalLM

        if threads:
            torch.set_num_threads(threads)
        AttentionInterface.register(ATTENTION_NAME, attend)
        place = find_device(device)
        problem = f"transformers cannot build the {self.config.model_type} that {self.directory} describes"
        with _reading(problem, hint="is config.json that of the model's authors?"), torch.device("meta"):
            AutoModelForCausalLM.from_config(self.config)
        with _reading(f"the model in {self.directory} does not load", hint="is the download complete?"):
            hf, report = AutoModelForCausalLM.from_pretrained(
                self.directory,
                local_files_only=True,
                dtype=TORCH_DTYPES[self.dtype],
                output_loading_info=True,
            )
        # Transformers fills what is missing with random numbers and goes on.
        if absent := sorted(report["missing_keys"]):
            raise ModelUnreadable(
                f"the weights in {self.directory} lack {len(absent)} tensors, the first is {absent[0]}",
                hint="is the download complete?",
            )
        with _reading(f"the model does not fit on the device {device!r}", hint="choose another model.device"):
            hf = hf.to(place)
        if place.type == "cpu":
            memory.copy_weights(hf)
        plain = hf.eval().requires_grad_(False)
        backend = choose_backend(kernels, hf.device, self.dtype, self.weights)
        return LoadedModel(self, plain, backend, memory)


class LoadedModel:
    """Weights in memory and the forward pass over flat batches. One pass at a time; calls from threads queue up."""

    def __init__(
        self,
        source: ModelSource,
        plain: Any,
        backend: Backend,
        memory: HostMemory = HostMemory(),  # noqa: B008
    ) -> None:
        """`plain`: the transformers model; what runs is a twin of it on `backend`."""
        self.source = source
        self.facts = source.facts
        self.tokenizer = source.tokenizer
        self.geometry = source.facts.geometry
        self.max_positions = source.facts.max_positions
        self.vocabulary = source.facts.vocabulary
        self.plain = plain
        self.query_heads = int(source.config.num_attention_heads)
        self.threads = torch.get_num_threads()
        self.backend = backend
        self.decoder: DecodeSteps | None = None
        with torch.inference_mode():
            self.hf = twin(plain, backend, ATTENTION_NAME)
        self._lock = threading.RLock()
        self.files = source.files
        self._guard = memory.guard
        self._guarded = memory.protect(source.files.weights)
        if memory.guard:
            for slot in self._guarded:
                weakref.finalize(plain, memory.guard.release, slot)

    def check(self) -> None:
        """Raises ModelChanged once its files are known to have changed. Cheap: it is asked after each step."""
        if self._guard and any(map(self._guard.faulted, self._guarded)):
            self.files.damage = self.files.damage or "weights were cut short, or the disk fails"
        self.files.check()

    def verify(self) -> None:
        """Compare files that were touched with what was loaded. It may read all of them. Raises ModelChanged."""
        self.check()
        self.files.verify()

    @property
    def device(self) -> torch.device:
        device: torch.device = self.plain.device
        return device

    def prepare_decoding(self, most: int) -> None:
        """Make steps of one token for each of up to `most` requests replayable, where that is faster. Mutates."""
        self.decoder = self.backend.decoder(self, most)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Other threads' passes wait meanwhile."""
        with self._lock, torch.inference_mode():
            yield

    def new_kv(self) -> GrowingKV:
        """Empty KV with memory of its own, where the model computes."""
        return GrowingKV(self.geometry, device=self.device)

    def compute(
        self, token_ids: torch.Tensor, positions: torch.Tensor, plan: AttentionPlan, keep: torch.Tensor
    ) -> torch.Tensor:
        """One pass. `token_ids`, `positions`: int64 [1, tokens]; `keep`: indices of the tokens whose logits are wanted.

        Returns:
            logits [1, len(keep), vocabulary] in the model's dtype.
        """
        with self._lock, torch.inference_mode(), self.backend.computing():
            current = CURRENT_PLAN.set(plan)
            try:
                output = self.hf(input_ids=token_ids, position_ids=positions, use_cache=False, logits_to_keep=keep)
            finally:
                CURRENT_PLAN.reset(current)
        logits: torch.Tensor = output.logits
        return logits

    def shallow(self, layers: int) -> LoadedModel:
        """A model of the first `layers` layers on the same weights: every layer takes the same time, so it shows how
        long a pass takes in a fraction of it. Its answers mean nothing."""
        source = copy.copy(self.source)
        source.facts = replace(self.facts, geometry=replace(self.geometry, layers=layers))
        return LoadedModel(source, shortened(self.plain, layers), self.backend.another())

    @contextlib.contextmanager
    def reference(self) -> Iterator[Any]:
        """The plain transformers model on the same weights, with its own attention, for comparisons.

        Holds the lock: the engine waits meanwhile.
        """
        with self.alone():
            yield self.plain


def find_model(
    name: str,
    home: Path,
    *,
    dtype: str = "auto",
    weights: str = "auto",
    progress: Callable[[str], None] | None = None,
) -> ModelSource:
    """The model called `name`: the built-in default, a directory, a GGUF file or a Hub repository.

    The default model and GGUF files are converted once into `home`. Only the default model and Hub names use the
    network, and only when they are not on disk yet.

    Raises:
        ModelNotFound, ModelUnreadable, ModelFetchFailed, ModelUnsupported.
    """
    path = Path(name).expanduser()
    if name == DEFAULT_MODEL and not path.exists():
        directory, revision = default_model(home, progress)
        return ModelSource(name, directory, revision, dtype, weights)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelNotFound(f"no GGUF file at {path}", hint="check the path")
        directory, revision = gguf_model(path.resolve(), home, progress)
        return ModelSource(path.stem, directory, revision, dtype, weights)
    if path.is_dir():
        return ModelSource(path.name, path.resolve(), "local", dtype, weights)
    if path.is_absolute() or name.startswith(".") or name.count("/") != 1:
        raise ModelNotFound(
            f"no model at {name!r}: neither a directory, a .gguf file, nor a Hub name like owner/model",
            hint=f"the built-in model is {DEFAULT_MODEL!r}",
        )
    directory = _hub_snapshot(name)
    return ModelSource(name, directory, directory.name, dtype, weights)


@contextlib.contextmanager
def _reading(problem: str, *, hint: str) -> Iterator[None]:
    """Name whatever a damaged model makes transformers raise: its parsers raise errors of a dozen kinds."""
    try:
        yield
    except QuireError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise lack_of(error, "the model") or ModelUnreadable(f"{problem}: {reason:.300}", hint=hint) from error


def _hub_snapshot(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "*.txt"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise lack_of(error, name) or ModelNotFound(
            f"{name!r} is not a directory here and could not be had from the Hub: {type(error).__name__}",
            hint="check the name and the network, or download the model and give its directory",
        ) from error


def _resolve_dtype(config: Any, dtype: str) -> str:
    if dtype == "auto":
        stored = str(getattr(config, "dtype", None) or "bfloat16").removeprefix("torch.")
        return stored if stored in TORCH_DTYPES else "bfloat16"
    return dtype


def _geometry(config: Any, dtype: str) -> KVGeometry:
    """Raises: ModelUnsupported for a configuration that does not tell the shape of its KV."""
    needed = ("num_hidden_layers", "num_attention_heads", "hidden_size", "max_position_embeddings", "vocab_size")
    if unknown := [name for name in needed if not isinstance(getattr(config, name, None), int)]:
        raise ModelUnsupported(
            f"the configuration of this {config.model_type} does not say {', '.join(unknown)}",
            hint="choose a model whose layers are all alike",
        )
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return KVGeometry(int(config.num_hidden_layers), int(kv_heads), int(head_dim), dtype)


def _eos_ids(directory: Path, config: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end an answer: those of the generation settings, the configuration and the tokenizer."""
    found: list[Any] = [config.eos_token_id, tokenizer.eos_token_id]
    generation = directory / "generation_config.json"
    if generation.is_file():
        found.append(json.loads(generation.read_bytes()).get("eos_token_id"))
    flat = [i for item in found for i in (item if isinstance(item, list) else [item])]
    return frozenset(int(i) for i in flat if i is not None)
