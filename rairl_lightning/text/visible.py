"""Text from a model, made safe to show in a terminal."""


def visible(text: str, keep: str = "") -> str:
    r"""Write out what a terminal would obey or hide: control and format characters, odd spaces, lone surrogates.

    Args:
        text: anybody's.
        keep: characters that stay as they are, such as a line break.

    >>> print(visible("go \x1b[31mleft\u202e\n"))
    go \x1b[31mleft\u202e\n
    """
    shown = (c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii") for c in text)
    return "".join(shown)
