"""Text that every encoder takes."""


def well_formed(text: str) -> str:
    r"""Replace lone surrogates, which JSON escapes and command lines can hold and UTF-8 cannot, by U+FFFD.

    >>> ascii(well_formed("left \ud800\n"))
    "'left \\ufffd\\n'"
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
