"""Where a trace goes wrong, by two protocols.

*Perturbed pairs* (the paper's): expert traces corrupted at a known span, and where a score falls most. *Natural errors*
(ProcessBench's): solutions whose first wrong step somebody marked, and the first step that scores below a threshold.
"""

from rairl_lightning.evaluation.localisation.perturbed import LEVELS, METHODS, Found, Located, Reading, localise, locate

__all__ = ["LEVELS", "METHODS", "Found", "Located", "Reading", "localise", "locate"]
