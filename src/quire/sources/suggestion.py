"""Did you mean: the nearest existing name for a path that is not there."""

from __future__ import annotations

import difflib
import os
from pathlib import Path


def did_you_mean(path: Path) -> str:
    """A hint naming what stands closest to `path` in its nearest existing directory, or ""."""
    missing = Path(os.path.abspath(path)) if "\0" not in str(path) else Path.cwd()
    while missing != missing.parent and not os.path.isdir(missing.parent):
        missing = missing.parent
    try:
        names = sorted(os.listdir(missing.parent))
    except OSError:
        return ""  # only a suggestion: the error it decorates is raised anyway
    lowered = {name.lower(): name for name in names}
    close = difflib.get_close_matches(missing.name.lower(), list(lowered), n=1, cutoff=0.6)
    return f"did you mean {lowered[close[0]]}?" if close else ""
