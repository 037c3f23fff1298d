"""Who makes a change, where nobody else says so."""

from __future__ import annotations

import getpass
import os
import platform


def actor() -> str:
    """Who is at the keyboard, for the history."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user in the password database, as in a container
        return f"uid {os.getuid()}"


def server_actor() -> str:
    """The actor of a change that a server makes by itself: the name of its machine."""
    return f"server {platform.node() or 'of no name'}"
