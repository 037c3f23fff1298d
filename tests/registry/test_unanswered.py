"""What is left of a connection to a server that took it and never spoke."""

from __future__ import annotations

import socket

import pytest

from quire.errors import RegistryUnreachable
from quire.registry.database import Database


def test_an_attempt_that_was_given_up_is_closed_while_its_error_is_still_held() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(10)
        database = Database(f"postgresql://quire@127.0.0.1:{silent.getsockname()[1]}/quire", busy_seconds=1)
        with pytest.raises(RegistryUnreachable, match="timeout expired") as refused, database.reading():
            pytest.fail("nobody is there")
        attempt, _ = silent.accept()
        with attempt:
            attempt.settimeout(5)
            while attempt.recv(1024):  # what it asked for, then the end
                pass
        assert refused.value.__cause__ is not None, "why is still told"
        database.close()
