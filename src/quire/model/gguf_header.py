"""What a GGUF file's header says of its model, read before the file is converted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from quire.errors import ModelUnreadable, ModelUnsupported
from quire.model.support import missing_features

if TYPE_CHECKING:
    from collections.abc import Iterator


def check_gguf(file: Path) -> None:
    """Refuse what the engine does not compute, or what transformers would convert into another model.

    Raises:
        ModelUnreadable: it has no header that can be read.
        ModelUnsupported: naming the architecture or the feature.
    """
    from gguf import GGUFReader
    from transformers import AutoConfig

    try:
        reader = GGUFReader(file)
        architecture = str(reader.fields["general.architecture"].contents())
    except Exception as error:  # what a damaged file makes the reader raise has no common base
        raise ModelUnreadable(
            f"{file.name} could not be read: {' '.join(str(error).split()):.300}",
            hint="is the download complete?",
        ) from error
    try:
        config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
    except Exception as error:
        raise ModelUnsupported(
            f"transformers does not convert GGUF files of the architecture {architecture!r}: "
            f"{' '.join(str(error).split()):.300}",
            hint="use the model's directory of safetensors files, if its family is supported (docs/models.md)",
        ) from error
    if missing := missing_features(config) or list(_dropped(reader, architecture, config)):
        raise ModelUnsupported(
            f"{file.name}, a GGUF file of {architecture}, uses {', '.join(missing)}, which the engine does not compute "
            "exactly",
            hint="choose a model with full causal attention in every layer, or its directory of safetensors files",
        )


def _dropped(reader: Any, architecture: str, config: Any) -> Iterator[str]:
    """What the header asks for and transformers' conversion leaves out: what it makes would be another model."""

    def key(name: str) -> Any:
        field = reader.fields.get(f"{architecture}.{name}")
        return None if field is None else field.contents()

    rope = config.rope_parameters
    scaling = key("rope.scaling.type") or ("linear" if key("rope.scale_linear") else "none")
    if scaling not in {"none", rope.get("rope_type")} and 1.0 not in (
        key("rope.scaling.factor"),
        key("rope.scale_linear"),
    ):
        yield f"{scaling} rotary scaling, which its conversion leaves out"
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if key("rope.dimension_count") not in {None, int(head * rope.get("partial_rotary_factor", 1.0))}:
        yield "rotary positions of a part of each head, which its conversion leaves out"
    factors = [tensor for tensor in reader.tensors if tensor.name.startswith(("rope_freqs", "rope_factors"))]
    if any(bool((tensor.data != 1).any()) for tensor in factors):
        yield "rotary frequencies of its own, which its conversion leaves out"
    window = key("attention.sliding_window")
    if window and window < config.max_position_embeddings and getattr(config, "sliding_window", None) is None:
        yield f"sliding-window attention ({window} tokens)"
