"""Which of two versions answers a request, while a candidate runs beside the live one."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from quire.answering.standing import silencing
from quire.artifact import digest_bytes
from quire.errors import QuireError

if TYPE_CHECKING:
    from collections.abc import Callable

    from quire.access import Policy, Principal
    from quire.answering.questions import Question
    from quire.core import Plan
    from quire.registry import Arm, Canary, Registry, VersionRecord

    Chain = tuple[VersionRecord, ...]

FRESH = 1.0  # seconds for which the registry is not asked again
DIGITS = 13  # of a digest: 52 bits


@dataclass(frozen=True, slots=True)
class Part:
    """What a request does in a canary. `candidate`: the chain of the version that is tried."""

    canary: Canary
    arm: Arm
    candidate: Chain

    @property
    def shadowed(self) -> bool:
        """Whether the candidate is asked the same when the live version has answered."""
        return self.canary.shadow and self.arm == "live"

    def planned(self, plan: Plan) -> Plan:
        """`plan`, with what the canary makes of it."""
        if self.arm != "candidate":
            return plan
        said = f"{plan.reason}; a canary gives {self.canary.percent} % of the requests to {self.canary.ref}"
        return replace(plan, version=self.canary.version, reason=said)


class Parts:
    """The canaries that run, at most a second late. Thread-safe."""

    def __init__(self, registry: Registry, policy: Policy, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._policy = policy
        self._clock = clock
        self._loading = threading.Lock()
        self._asked_at = float("-inf")
        self._running: dict[str, Canary] = {}

    def of(self, question: Question, principal: Principal, plan: Plan, chain: Chain) -> Part | None:
        """The part of a request that `chain` was found for; None: it has none.

        Who names a version gets that one. Who may not read all that the candidate says has no part, and nothing tells
        that there is a canary.
        """
        canary = self._current().get(plan.module_id)
        if canary is None or plan.version is not None or chain[-1].version != canary.against:
            return None
        try:
            candidate = self._registry.chain(self._registry.get(canary.module_id, canary.version))
        except QuireError:
            return None  # forgotten, or its parent was compiled anew: the live version answers
        leaf = candidate[-1]
        scopes = [scope for link in candidate for scope in link.scopes]
        if leaf.digest != canary.digest or leaf.state == "revoked" or any(link.expired for link in candidate):
            return None
        if silencing(candidate):
            return None
        if not all(self._policy.decide(principal, "read", scope) for scope in scopes):
            return None
        takes = place(canary, sticky_key(question, principal)) < canary.percent
        return Part(canary, "candidate" if takes else "live", candidate)

    def _current(self) -> dict[str, Canary]:
        now = self._clock()
        if now - self._asked_at >= FRESH and self._loading.acquire(blocking=False):
            try:
                self._running = {canary.module_id: canary for canary in self._registry.canaries.running()}
                self._asked_at = now
            except QuireError:
                self._asked_at = now  # it is not worth an answer: those that were known go on
            finally:
                self._loading.release()
        return self._running


def sticky_key(question: Question, principal: Principal) -> str:
    """What keeps a request on one side: its session, else its user, else how its conversation began."""
    tenant, user = principal.tenant, principal.user
    if question.session is not None:
        return f"session {tenant}/{user}/{question.session}"
    if user and not principal.is_operator:  # on one machine without users everybody is the operator
        return f"user {tenant}/{user}"
    return f"request {question.turns[0].content if question.turns else question.prompt}"


def place(canary: Canary, key: str) -> float:
    """From 0 to 100, the same for the same key, on every server; another for another canary."""
    digest = digest_bytes(f"{canary.number} {canary.ref} {key}".encode("utf-8", "surrogatepass"))
    return int(digest.partition(":")[2][:DIGITS], 16) * 100 / float(16**DIGITS)
