"""Compiling the kernels for this very machine, once, and calling them.

A general binary would have to leave out the wide vector units that make the difference, so the source is compiled on
first use, about five seconds, and kept in the user's cache directory under a name that says all it depends on. It
needs a C++17 compiler and nothing else: neither PyTorch's headers nor its OpenMP runtime.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import blake3
import torch

from quire.errors import InvalidSetting, KernelsUnavailable, lack_of
from quire.settings import MAX_CPU_ISA

HERE = Path(__file__).parent
SOURCE = HERE / "kernels.cpp"
FLAGS = ("-O3", "-march=native", "-std=c++17", "-pthread", "-fPIC", "-shared")
CAPPED = {  # flags behind FLAGS, by the value of MAX_CPU_ISA
    "AVX2": ("-march=x86-64-v3",),
    "AVX512": ("-march=x86-64-v4",),
    "AVX512_BF16": ("-mno-amx-tile",),
    "AMX": (),
}
DTYPE_CODES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.int8: 3}
SECONDS = 300  # of a compiler that does not end

X86 = {"x86_64", "AMD64"}

_SIZE = ctypes.c_int64
_ADDRESS = ctypes.c_void_p


class Unit(enum.IntEnum):
    """What multiplies bfloat16: `enum Unit` of dots.h."""

    VECTORS = 0  # float32 products of widened numbers
    DOTS = 1  # the vectors' own instruction for pairs of bfloat16
    TILES = 2  # the processor's matrix unit


@dataclass(frozen=True, slots=True)
class Library:
    """The loaded kernels.

    `wide`: columns of a packed panel; `split`: keys, `chunk`: rows of one partial result. `level`: the instruction set
    that they use for the widest products.
    """

    packed_size: ctypes._NamedFuncPointer
    pack: ctypes._NamedFuncPointer
    linear: ctypes._NamedFuncPointer
    attend: ctypes._NamedFuncPointer
    norm: ctypes._NamedFuncPointer
    decode: ctypes._NamedFuncPointer
    likeliest: ctypes._NamedFuncPointer
    wide: int
    split: int
    chunk: int
    unit: Unit
    level: str
    identity: str

    def unit_for(self, weights: torch.dtype, activations: torch.dtype) -> Unit:
        """What multiplies such weights by such activations. int8 is widened: to bfloat16 for tiles, else to float32."""
        if activations != torch.bfloat16 or (weights == torch.int8 and self.unit == Unit.DOTS):
            return Unit.VECTORS
        return self.unit


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C++ compiler. `path`: where the program lies; `version`: the first line it says of itself."""

    path: str
    version: str


class Weights(ctypes.Structure):
    """`struct Weights` of linear.h."""

    _fields_ = [
        *[(name, _ADDRESS) for name in ("panels", "scale", "bias")],
        *[(name, _SIZE) for name in ("dtype", "unit", "width", "depth")],
    ]


@functools.cache
def load_library(most: Unit = Unit.TILES) -> Library:
    """Compile what is not compiled yet, and load it. It uses the fastest unit that the processor has, up to `most`.

    QUIRE_MAX_CPU_ISA in the environment keeps it to an older instruction set, see `CAPPED`.

    Raises:
        KernelsUnavailable: no compiler, it failed, or this processor cannot run the result.
        InvalidSetting: QUIRE_MAX_CPU_ISA.
    """
    return open_library(compiled(*([] if most == Unit.TILES else [f"-DQUIRE_{most.name}_ONLY"])))


def open_library(path: Path) -> Library:
    """The kernels in a shared object that `compiled` made. Raises: KernelsUnavailable."""
    try:
        dll = ctypes.CDLL(str(path))
    except OSError as error:
        raise lack_of(error, str(path)) or KernelsUnavailable(
            f"{path} does not load: {error}", hint="delete the file and start again"
        ) from error
    dll.quire_lacking.restype = dll.quire_level.restype = ctypes.c_char_p
    if lacking := dll.quire_lacking():
        raise KernelsUnavailable(
            f"{path} was compiled for a processor with {lacking.decode()}, which this one does not have",
            hint=f"set {MAX_CPU_ISA}=AVX2, or model.kernels to torch",
        )
    constants = (_SIZE * 4)()
    dll.quire_constants(constants)
    wide, split, chunk, unit = constants
    dll.quire_packed_size.argtypes = [_SIZE] * 3
    dll.quire_pack.argtypes = [_ADDRESS, *[_SIZE] * 4, _ADDRESS, _SIZE]
    dll.quire_linear.argtypes = [ctypes.POINTER(Weights), _ADDRESS, _SIZE, _ADDRESS, *[_SIZE] * 4]
    dll.quire_attend.argtypes = [_ADDRESS, _SIZE, *[_ADDRESS] * 5]
    dll.quire_norm.argtypes = [_ADDRESS, _SIZE, _ADDRESS, ctypes.c_double, _ADDRESS, _SIZE, _SIZE, _SIZE]
    dll.quire_decode.argtypes = [_ADDRESS] * 5
    dll.quire_likeliest.argtypes = [_ADDRESS, *[_SIZE] * 3, _ADDRESS, _SIZE]
    names = ("pack", "linear", "attend", "norm", "decode", "likeliest")
    functions = {name: getattr(dll, f"quire_{name}") for name in names}
    for function in functions.values():
        function.restype = None
    dll.quire_packed_size.restype = _SIZE
    return Library(
        **functions,
        packed_size=dll.quire_packed_size,
        wide=wide,
        split=split,
        chunk=chunk,
        unit=Unit(unit),
        level=dll.quire_level().decode(),
        identity=path.stem,
    )


def compiled(*more: str) -> Path:
    """The shared object for these sources, compiler and processor; compiled if it is not there.

    Args:
        more: flags beside those that every compilation has.

    Raises:
        KernelsUnavailable: as `load_library`.
    """
    sources = [file.read_text() for file in (*sorted(HERE.glob("*.h")), SOURCE)]
    return built(SOURCE, "\n".join([*sources, _processor()]), (*FLAGS, *_capping(), *more))


def built(source: Path, content: str, flags: tuple[str, ...]) -> Path:
    """The shared object that the compiler makes of `source`; made if it is not there.

    Args:
        content: all that it depends on beside the compiler and `flags`.

    Raises:
        KernelsUnavailable: as `load_library`.
    """
    compiler = _compiler()
    identity = "\n".join([content, _run([*compiler, "--version"]), *flags])
    name = blake3.blake3(identity.encode()).hexdigest()[:16]
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    directory = Path(base).expanduser() / "quire" / "kernels"
    target = directory / f"{name}.so"
    if target.exists():
        return target
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory) as work:
            whole = Path(work, "kernels.so")
            _run([*compiler, *flags, str(source), "-o", str(whole)])
            if not whole.exists():
                raise KernelsUnavailable(
                    f"{compiler[0]} wrote no library", hint="install g++ (Debian: apt install g++), and unset CXX"
                )
            whole.replace(target)  # at once: a process that starts meanwhile finds all of it or nothing
    except OSError as error:
        raise lack_of(error, str(directory)) or KernelsUnavailable(
            f"the compiled kernels cannot be kept in {directory}: {error.strerror}",
            hint="make it writable, or set XDG_CACHE_HOME to a directory that is",
        ) from error
    return target


def find_compiler() -> Compiler | None:
    """The compiler that `load_library` runs, if it is there."""
    command = _compiler()
    path = shutil.which(command[0])
    try:
        return Compiler(path, _run([*command, "--version"]).partition("\n")[0]) if path else None
    except KernelsUnavailable:
        return None


def _compiler() -> list[str]:
    """A program and its first arguments, as make understands CXX."""
    named = os.environ.get("CXX", "")
    try:
        return shlex.split(named) or ["g++"]
    except ValueError:  # an open quotation
        return [named]


def _capping() -> tuple[str, ...]:
    cap = os.environ.get(MAX_CPU_ISA, "").upper()
    if cap and cap not in CAPPED:
        raise InvalidSetting(
            f"{MAX_CPU_ISA} is {cap!r}, expected one of {', '.join(CAPPED)}", hint="correct it, or unset it"
        )
    return CAPPED[cap] if cap and platform.machine() in X86 else ()


def _processor() -> str:
    """What -march=native depends on: a home directory may be shared by different machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - the compiler that the user named, on our own source
            command, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise lack_of(error, command[0]) or KernelsUnavailable(
            f"the C++ compiler {command[0]!r} does not run: {error}",
            hint="install g++ (Debian: apt install g++), name another with CXX, or use model.kernels = torch",
        ) from error
    if done.returncode:
        words = " ".join(done.stderr.split())[:500] or f"it ended with {done.returncode}"
        raise KernelsUnavailable(
            f"{command[0]} could not compile the kernels: {words}",
            hint="use model.kernels = torch, or another compiler with CXX",
        )
    return done.stdout
