"""Arguments as the user writes them, in words that jsonargparse takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import reduce

SHORT, FULL = "--print_config", "--print_config=full"
# Only of the model: below --trainer and --data there are lists of parts, and a key means the last one's.
_NESTED = re.compile(r"--(model(?:\.\w+){2,})")


def in_parsers_words(args: Sequence[str]) -> tuple[bool, list[str]]:
    """Whether the short form of the configuration is asked for, and the arguments as the parser has them.

    >>> in_parsers_words(["fit", "--print_config"]), in_parsers_words(["fit", "--print_config=full"])
    ((True, ['fit', '--print_config=skip_default']), (False, ['fit', '--print_config=']))
    """
    words = {SHORT: f"{SHORT}=skip_default", FULL: f"{SHORT}="}
    short = SHORT in args and not {"-h", "--help"} & set(args)
    return short, list(_nulls_in_files(words.get(one, one) for one in args))


def _nulls_in_files(args: Iterator[str]) -> Iterator[str]:
    """A null of an argument of the model's parts as a file has it: jsonargparse 4.53 parses it to the text "None".

    >>> list(_nulls_in_files(iter(["fit", "--model.pair.backbone.quantisation", "null", "--model.sft=null"])))
    ['fit', '--config={"model": {"pair": {"backbone": {"quantisation": null}}}}', '--model.sft=null']
    >>> list(_nulls_in_files(iter(["--trainer.callbacks.every_n_epochs", "null"])))
    ['--trainer.callbacks.every_n_epochs', 'null']
    """
    name = ""
    for one in args:
        if name and one == "null":
            one, name = f"{name}=null", ""
        elif name:
            yield name
            name = ""
        key, _, value = one.partition("=")
        if not (nested := _NESTED.fullmatch(key)):
            yield one
        elif value == "null":
            keys = nested[1].split(".")
            yield f"--config={json.dumps(reduce(lambda inner, key: {key: inner}, reversed(keys), None))}"
        elif value:
            yield one
        else:
            name = one
    if name:
        yield name
