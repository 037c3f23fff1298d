"""The bytes of a module at rest: identity, manifest, format, writer, reader. See docs/format.md."""

from quire.artifact.identity import (
    canonical,
    context_checksum,
    digest_bytes,
    digest_file,
    is_digest,
    key_of,
    parse_digest,
    version_of,
)
from quire.artifact.manifest import FORMAT_VERSION, Manifest
from quire.artifact.mapping import REPLACE, copy_file, map_file
from quire.artifact.parts import (
    FileEntry,
    LayerShape,
    LayoutIdentity,
    ModelIdentity,
    Numerics,
    ParentIdentity,
    SourceEntry,
    Verification,
)
from quire.artifact.reader import Artifact, open_artifact
from quire.artifact.reissuing import reissue
from quire.artifact.shards import DEFAULT_SHARD_BYTES
from quire.artifact.writer import ArtifactWriter

__all__ = [
    "DEFAULT_SHARD_BYTES",
    "FORMAT_VERSION",
    "REPLACE",
    "Artifact",
    "ArtifactWriter",
    "FileEntry",
    "LayerShape",
    "LayoutIdentity",
    "Manifest",
    "ModelIdentity",
    "Numerics",
    "ParentIdentity",
    "SourceEntry",
    "Verification",
    "canonical",
    "context_checksum",
    "copy_file",
    "digest_bytes",
    "digest_file",
    "is_digest",
    "key_of",
    "map_file",
    "open_artifact",
    "parse_digest",
    "reissue",
    "version_of",
]
