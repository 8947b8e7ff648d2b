"""C++ for a CPU, compiled where it runs when it is first needed; without a compiler everything works, only slower."""

from rairl_lightning.native.compiling import compiler_found, compiler_line, library, why_not

__all__ = ["compiler_found", "compiler_line", "library", "why_not"]
