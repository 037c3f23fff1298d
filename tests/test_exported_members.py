"""What `import quire` gives is a promise: few names, each of them documented, none by accident."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import quire
import quire.errors

PROMISED = {
    "Answer",
    "BuildReport",
    "Comparison",
    "Delta",
    "ModulePlan",
    "ModuleRef",
    "Project",
    "QuireError",
    "Restored",
    "Sampling",
    "Turn",
    "Usage",
    "__version__",
    "open_project",
}


def test_the_promised_names_and_no_others() -> None:
    assert set(quire.__all__) == PROMISED
    assert len(quire.__all__) <= 15


def test_every_name_is_there_and_says_what_it_is() -> None:
    for name in quire.__all__:
        assert hasattr(quire, name), name
        if name != "__version__":
            assert getattr(quire, name).__doc__, name


def test_the_version_is_that_of_the_package() -> None:
    assert quire.__version__ == version("quire")


def test_every_error_is_in_the_tree_that_the_docstring_draws() -> None:
    drawn = quire.errors.__doc__ or ""
    named = [e for e in vars(quire.errors).values() if isinstance(e, type) and issubclass(e, quire.QuireError)]
    assert len(named) > 40
    for error in named:
        line = next((line for line in drawn.splitlines() if f" {error.__name__} " in f"{line} "), None)
        assert line is not None, error.__name__
        if error is not quire.QuireError:
            depth = line.index(error.__name__)
            parent = error.__bases__[0]
            parent_line = next(text for text in drawn.splitlines() if f" {parent.__name__} " in f"{text} ")
            assert parent_line.index(parent.__name__) < depth, f"{error.__name__} hangs below {parent.__name__}"
    assert len({error("x").code for error in named}) == len(named), "every code is one error's"


def test_importing_has_no_side_effects() -> None:
    """No output, no environment, no threads: a library is imported by programs of others."""
    program = (
        "import os, threading; before = dict(os.environ); import quire; "
        "assert dict(os.environ) == before; assert threading.active_count() == 1"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
