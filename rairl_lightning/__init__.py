"""Learn process-level reasoning rewards from expert demonstrations, adversarially, on Lightning.

Importing the package costs nothing: torch and Lightning are loaded by the modules that need them.
"""

__version__ = "0.1.0"
