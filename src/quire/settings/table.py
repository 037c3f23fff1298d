"""Every setting of quire.toml, once: name, default, bounds, help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quire.settings import addresses

Value = str | int | float | bool | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    default: Value
    help: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float = 2**53 - 1  # what every reader of JSON keeps exact
    secret: bool = False  # may hold a password: its value is in no message
    expects: Callable[[str], str] | None = None  # of a text: what it must be, "" where it is that


# Not a setting: read when the kernels are compiled, as their processor is a matter of the machine and not of a project.
MAX_CPU_ISA = "QUIRE_MAX_CPU_ISA"

SETTINGS = (
    Setting("project.name", "project", "name of the project"),
    Setting("project.tenant", "local", "tenant that owns the project's modules"),
    Setting("model.path", "smollm2-135m-instruct", "the built-in model, a directory, a .gguf file or a Hub name"),
    Setting("model.home", "", "where fetched and converted models are kept; empty: the user's data directory"),
    Setting("model.dtype", "auto", "dtype of weights and KV", ("auto", "bfloat16", "float16", "float32")),
    Setting("model.device", "cpu", "where the model runs: cpu, cuda or cuda:N"),
    Setting(
        "model.threads", 0, "cores for one operation; 0: all. Part of the numerics of a module", least=0, most=1024
    ),
    Setting(
        "model.kernels",
        "auto",
        "arithmetic on the CPU: our own kernels (compiled once, needs g++), PyTorch's, or what suits the machine",
        ("auto", "native", "torch"),
    ),
    Setting(
        "model.weights",
        "auto",
        "int8 rounds the linear layers' weights: faster decoding, answers may differ. Part of the model's identity",
        ("auto", "int8"),
    ),
    Setting("layout.file", "", "layout file; empty: made from the model's chat template"),
    Setting(
        "build.prefill_chunk",
        2048,
        "tokens of one prefill step: bounds memory, part of a module's key",
        least=16,
    ),
    Setting("build.max_source_bytes", 64 << 20, "a larger source file is refused", least=1),
    Setting(
        "build.watch_seconds", 1.0, "how often `quire build --watch` looks for changed files", least=0.05, most=3600
    ),
    Setting("build.shard_bytes", 1 << 30, "largest size of one KV file", least=1 << 20),
    Setting("store.path", ".quire", "directory of registry and artifacts, relative to the project"),
    Setting(
        "registry.url",
        "",
        "where the registry is: postgresql://USER@HOST/DATABASE; empty: SQLite, in store.path",
        secret=True,
        expects=addresses.registry,
    ),
    Setting(
        "registry.poll_seconds",
        0.25,
        "how often a server looks for changes by others; most of the time that a revocation takes to reach it",
        least=0.05,
        most=60,
    ),
    Setting(
        "registry.stale_seconds",
        300.0,
        "how long a server answers from what it last knew while PostgreSQL is gone; then it refuses; 0: at once",
        least=0,
    ),
    Setting(
        "redis.url",
        "",
        "Redis for limits that all servers count together, and word of changes: redis://HOST:6379/0; empty: none",
        secret=True,
        expects=addresses.redis,
    ),
    Setting(
        "redis.prefix",
        "quire",
        "what all names in Redis begin with; one for each registry",
        expects=addresses.redis_prefix,
    ),
    Setting(
        "store.url",
        "",
        "object store behind the local disk: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or "
        "file:///directory; empty: the local disk alone",
        expects=addresses.object_store,
    ),
    Setting(
        "store.endpoint",
        "",
        "address of an S3-compatible server, such as http://minio:9000; empty: the cloud's own",
        expects=addresses.endpoint,
    ),
    Setting(
        "store.disk_bytes",
        0,
        "bytes of artifacts that stay on the local disk where store.url is set; 0: as many as there is room for",
        least=0,
    ),
    Setting(
        "store.timeout_seconds",
        10.0,
        "how long the object store may make no progress, tries again included, before it counts as gone",
        least=0.1,
        most=3600,
    ),
    Setting("pool.max_bytes", 8 << 30, "bytes of modules kept mapped while nobody uses them", least=0),
    Setting(
        "pool.memory",
        "auto",
        "how modules and weights are read: mapped in place, or copied into memory that no change of a file reaches; "
        "auto: mapped, and copied where there is no C++ compiler to guard mapped files",
        ("auto", "mapped", "copied"),
    ),
    Setting(
        "pool.check_seconds",
        2.0,
        "how often the files of open modules and of the model are looked at for changes, beside each lease and the end "
        "of each answer; 0: only then",
        least=0,
        most=3600,
    ),
    Setting(
        "pool.device_bytes",
        0,
        "bytes of modules on the GPU, where the model runs on one; 0: half of what weights and suffixes leave free",
        least=0,
    ),
    Setting("engine.max_sequences", 64, "requests computed together; no more than engine.step_tokens", least=1),
    Setting("engine.step_tokens", 512, "new tokens computed in one step, over all requests", least=16),
    Setting(
        "engine.suffix_tokens",
        0,
        "room for the KV of questions, answers and idle sessions, in tokens; 0: a quarter of the memory that is free "
        "at the start, up to engine.max_sequences full contexts",
        least=0,
    ),
    Setting("engine.queue", 256, "requests waiting before the server says busy", least=1),
    Setting(
        "engine.on_revoke",
        "finish",
        "answers under way from a module that is revoked: let them finish, or cut them with the error module_revoked",
        ("finish", "cut"),
    ),
    Setting(
        "engine.guesses",
        8,
        "most tokens of a greedy answer that a step guesses from the text and checks, on the CPU with our own kernels; "
        "0: none. Answers are the same",
        least=0,
        most=64,
    ),
    Setting(
        "engine.answer_tokens",
        1024,
        "most tokens of an answer whose caller gives no max_tokens; 0: as many as the context holds",
        least=0,
    ),
    Setting(
        "engine.repetition_tokens",
        256,
        "an answer ends when so many of its last tokens are one span, four times in a row or more; 0: it goes on",
        least=0,
    ),
    Setting("engine.session_bytes", 1 << 30, "bytes of KV for idle sessions, within engine.suffix_tokens", least=0),
    Setting("routing.explicit", True, "let intent, product, state and metadata of a request name the module"),
    Setting("routing.rules", True, "go by keywords, patterns and conditions of the modules"),
    Setting("routing.classifier", True, "go by the examples of the modules"),
    Setting(
        "routing.classifier_confidence", 0.5, "the classifier decides from here on, else it abstains", least=0, most=1
    ),
    Setting("routing.semantic", True, "go by the text of the modules"),
    Setting(
        "routing.semantic_confidence", 0.5, "the semantic stage decides from here on, else it abstains", least=0, most=1
    ),
    Setting(
        "routing.outside", (), "questions that no module covers; the learned stages are told to be unsure about them"
    ),
    Setting("routing.fallback", True, "answer that a question is not covered; off: such a question is an error"),
    Setting("access.keys", False, "ask for API keys, which `quire keys create` makes"),
    Setting("access.issuer", "", "ask for tokens of this OpenID Connect issuer: what their claim iss says"),
    Setting("access.audience", "", "what the tokens' claim aud must name"),
    Setting("access.jwks", "", "the issuer's keys: an https:// address, or a file relative to the project"),
    Setting("access.jwks_seconds", 3600.0, "how long fetched keys are used; they are renewed at half of it", least=60),
    Setting(
        "access.jwks_retry_seconds", 10.0, "they are not fetched more often, whatever keys the tokens name", least=0
    ),
    Setting("access.clock_skew_seconds", 60.0, "how far the issuer's clock may be off", least=0, most=600),
    Setting("access.tenant_claim", "tenant", "the tokens' claim that names the tenant; dots lead into objects"),
    Setting("access.user_claim", "sub", "the claim that names the user"),
    Setting("access.workspaces_claim", "workspaces", "the claim that lists the user's workspaces"),
    Setting("access.roles_claim", "roles", "the claim that lists the user's roles"),
    Setting(
        "access.roles",
        "",
        "what the names in that claim mean, as in staff=reader, boss=admin; empty: reader, publisher, auditor and "
        "admin mean themselves",
    ),
    Setting(
        "audit.routes", 1.0, "share of the router's decisions that the audit log keeps, 0 to 1; 1: all", least=0, most=1
    ),
    Setting("audit.texts", False, "keep questions and answers in the audit log too"),
    Setting("audit.queue", 10_000, "audit records that may wait to be written; beyond it they are counted", least=1),
    Setting("log.format", "readable", "the server's log, one event a line", ("readable", "json")),
    Setting("log.level", "info", "the least that is logged", ("debug", "info", "warning", "error")),
    Setting(
        "tracing.endpoint",
        "",
        "where an OpenTelemetry collector takes traces, as http://127.0.0.1:4318/v1/traces; empty: nothing is traced. "
        "Needs quire[tracing]",
        expects=addresses.endpoint,
    ),
    Setting("tracing.share", 1.0, "share of requests to trace, of those whose caller has not decided", least=0, most=1),
    Setting("tracing.service", "quire", "what the traces call this server"),
    Setting("server.host", "127.0.0.1", "address to listen on; beyond loopback only with access.keys or access.issuer"),
    Setting("server.port", 8642, "port to listen on; 0: any free one", least=0, most=65535),
    Setting("server.drain_seconds", 30.0, "how long a shutdown waits for running answers", least=0),
    Setting(
        "server.open_modules",
        "none",
        "live modules that are opened before the server says it is ready",
        ("none", "pinned", "all"),
    ),
    Setting(
        "server.ready_modules",
        "all",
        "live modules that must be restorable for the server to be ready; any: one is enough",
        ("all", "any"),
    ),
    Setting(
        "server.watch_seconds",
        5.0,
        "how often a server looks for changed sources, to mark what was built from them as stale; 0: never",
        least=0,
        most=3600,
    ),
    Setting("server.max_body_bytes", 4 << 20, "a larger request body is refused", least=1024),
)
BY_NAME = {s.name: s for s in SETTINGS}
SECTIONS = {s.name.split(".")[0] for s in SETTINGS}
NESTED = {"modules", "limits"}  # sections that hold tables of their own
