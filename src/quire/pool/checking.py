"""Whether a module may answer, and fits the model and the modules before it. Reads manifests only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quire.errors import ModelMismatch, NoLiveVersion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quire.artifact import Artifact
    from quire.model import ModelFacts
    from quire.registry import VersionRecord


def check_usable(record: VersionRecord) -> None:
    """Raises NoLiveVersion or ModuleExpired for a version that must not answer any more."""
    if record.state == "revoked":
        raise revoked(record)
    record.check_unexpired()


def revoked(record: VersionRecord) -> NoLiveVersion:
    """What is raised where a revoked version is asked for."""
    return NoLiveVersion(f"{record.ref} is revoked", hint="choose another version with `quire show`")


def check_model(artifact: Artifact, model: ModelFacts) -> None:
    """Compare what the module was compiled for with what is loaded, field by field.

    Raises:
        ModelMismatch: naming the field, the expected and the actual value.
    """
    manifest = artifact.manifest
    pairs = {
        "model fingerprint": (manifest.model.fingerprint, model.fingerprint),
        "tokenizer fingerprint": (manifest.tokenizer_fingerprint, model.tokenizer_fingerprint),
        "dtype": (manifest.dtype, model.geometry.dtype),
        "KV geometry": (manifest.geometry, model.geometry),
        "rotary parameters": (manifest.rope, model.rope),
    }
    for name, (module_has, model_has) in pairs.items():
        if module_has != model_has:
            raise ModelMismatch(
                f"{manifest.module_id}@{manifest.version}: {name} is {module_has}, the loaded model has {model_has}",
                hint="run `quire build` with this model, or serve with the model it was compiled for",
            )


def check_chain(artifacts: Sequence[Artifact]) -> None:
    """Each module must stand after the very one it was compiled after. Reads manifests only.

    Raises:
        ModelMismatch.
    """
    parent, position = None, 0
    for artifact in artifacts:
        manifest = artifact.manifest
        found = manifest.parent.digest if manifest.parent else None
        if found != parent or manifest.position_start != position:
            raise ModelMismatch(
                f"{manifest.module_id}@{manifest.version} was compiled after {found} up to position "
                f"{manifest.position_start}; this chain has {parent} up to position {position}",
                hint="run `quire build`",
            )
        parent, position = manifest.digest, manifest.position_start + manifest.token_count
