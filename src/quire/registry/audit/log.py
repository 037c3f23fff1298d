"""The audit log of one registry: its transactions, and the head that is kept outside."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection

from quire.errors import InvalidSetting, QuireError, RegistryUnreadable
from quire.registry.audit import chain, checking
from quire.registry.audit.anchor import Anchor
from quire.registry.audit.checking import Verdict
from quire.registry.audit.events import AuditEvent, AuditFilter, AuditRecord, Head
from quire.registry.audit.folding import Folding
from quire.registry.database import Database
from quire.registry.outcomes import MADE, telling
from quire.registry.records import Finding

log = logging.getLogger(__name__)

EVERYTHING = AuditFilter()


class AuditLog:
    """Appended to and read, never changed. Threads may share one; processes may each open the same database.

    Methods raise RegistryBusy, RegistryUnreadable; those that mutate also RegistryUnwritable and RecordInvalid, and
    then nothing is recorded.
    """

    def __init__(self, database: Database, anchor: Anchor | None) -> None:
        """`anchor`: where the head is kept; None: nowhere."""
        self._database = database
        self._anchor = anchor
        self.folding = Folding()
        self._contradicted: Head | None = None
        self._told: list[Callable[[int], None]] = []

    def listen(self, tell: Callable[[int], None]) -> None:
        """Call `tell` with the generation after each change that is made through this log, when it is committed.

        It is called by the thread that made the change, which waits for it, and must not raise.
        """
        self._told.append(tell)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A writing transaction, for changes and the records of them; after it the kept head moves on."""
        with self._database.writing() as connection:
            before, was = chain.standing(connection)
            kept = self._check_anchor(connection, before)
            yield connection
            after, generation = chain.standing(connection)
            if after != before and kept == "none":
                after = _anchored(connection, "quire", "no kept head was found: what came before is not vouched for")
        if self._anchor and after != before and kept != "contradicted":
            with telling(MADE):
                self._anchor.move(after)
        if generation != was:
            for tell in self._told:
                tell(generation)

    def record(self, events: Sequence[AuditEvent], *, again: bool = False) -> tuple[AuditRecord, ...]:
        """Appends `events` in one transaction of their own, except those that are folded. Mutates.

        Appends the counts of folded records, too, once their window is over, even with no `events`.

        `again`: an attempt before this one may have done it, and its answer never came; then nothing is appended.
        """
        admitted = [event for event in events if self.folding.admits(event)]
        with self.folding.taken() as folds:
            if not admitted and not folds:
                return ()
            with self.writing() as connection:
                if again and admitted and chain.holds(connection, admitted[0]):
                    admitted = []
                return (*_append_folds(connection, folds), *[chain.append(connection, event) for event in admitted])

    def end(self) -> None:
        """Appends the counts of all folded records. Mutates. Logs those that cannot be written."""
        try:
            with self.folding.taken(everything=True) as folds:
                if folds:
                    with self.writing() as connection:
                        _append_folds(connection, folds)
        except QuireError as error:
            log.error("the number of folded audit records cannot be written: %s", error.message)

    def newest(self, wanted: AuditFilter = EVERYTHING, limit: int = 100) -> list[AuditRecord]:
        """The last `limit` records that `wanted` lets through, newest first. Raises InvalidSetting."""
        if limit < 1:
            raise InvalidSetting(f"limit must be 1 or more, found {limit}", hint="the default is 100")
        with self._database.reading() as connection:
            return chain.newest(connection, wanted, limit)

    def each(self, wanted: AuditFilter = EVERYTHING) -> Generator[AuditRecord]:
        """All of them, oldest first, as of now; use it up or close it, for it holds a transaction."""
        with self._database.reading() as connection:
            yield from chain.each(connection, wanted)

    def head(self) -> Head:
        """What to keep somewhere else, for `verify` to expect."""
        with self._database.reading() as connection:
            return chain.head(connection)

    def verify(self, expect: Head | None = None) -> Verdict:
        """Reads the whole log and looks for every change. `expect`: a head that was kept somewhere else."""
        findings: list[Finding] = []
        promised: dict[str, Head] = {} if expect is None else {"expected head": expect}
        kept = None
        if self._anchor:
            try:
                kept = self._anchor.read()  # before the log, which may grow meanwhile
            except RegistryUnreadable as error:
                findings.append(Finding("audit", "kept head", error.message))
        if kept:
            promised["kept head"] = kept
        with self._database.reading() as connection:
            verdict = checking.verify(connection, promised)
        expected = self._anchor and not self._anchor.may_begin_here
        if self._anchor and expected and not kept and not findings and verdict.head.records:
            findings.append(Finding("audit", "kept head", f"expected {self._anchor.file}, found nothing in it"))
        return Verdict(verdict.head, (*verdict.findings, *findings), kept)

    def anchor(self, *, who: str, why: str) -> Head | None:
        """Keep the head as it is now, whatever was kept, and record that: after a backup was restored, say. Mutates.

        None where no head is kept.
        """
        if self._anchor is None:
            return None
        with self._database.writing() as connection:
            self._anchor.check_writable()
            head = _anchored(connection, who, why)
        self._anchor.move(head, force=True)
        return head

    def keep_first_head(self) -> None:
        """Keep the head of a log that was just made. Mutates the file beside it."""
        if self._anchor:
            self._anchor.move(self.head())

    def _check_anchor(self, connection: Connection, head: Head) -> str:
        """ "kept", "none" or "contradicted": whether the log agrees with the head that was kept of it."""
        if self._anchor is None:
            return "kept"
        self._anchor.check_writable()
        try:
            kept = self._anchor.read()
        except RegistryUnreadable as error:
            log.error("%s", error.message)
            return "contradicted"
        if kept is None and head == chain.EMPTY:
            self._anchor.move(head)  # nobody may see records without a kept head
            return "kept"
        if kept is None:
            return "kept" if self._anchor.may_begin_here else "none"
        if head == kept or chain.hash_at(connection, kept.records) == kept.hash:
            return "kept"
        if kept != self._contradicted:  # once for each: every change would say it again
            log.error("the audit log does not hold its kept head %s: run `quire audit verify`", kept)
        self._contradicted = kept
        return "contradicted"


def _append_folds(connection: Connection, folds: Sequence[AuditEvent]) -> list[AuditRecord]:
    """Skips those that an earlier attempt wrote although its answer never came."""
    return [chain.append(connection, event) for event in folds if not chain.holds(connection, event)]


def _anchored(connection: Connection, who: str, why: str) -> Head:
    event = AuditEvent(kind="log.anchor", who=who, what="audit log", why=why)
    record = chain.append(connection, event)
    return Head(record.sequence, record.hash)
