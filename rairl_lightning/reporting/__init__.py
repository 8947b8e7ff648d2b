"""``rairl report``: one page about a run, made of the files in its folder and nothing else.

``files`` and ``events`` read, ``traces`` and ``pairs`` choose, ``charts`` and ``tokens`` draw,
``sections`` put together, ``page`` renders the templates. What is missing or cannot be read is left out, and the page
says so; the texts of traces are anybody's and are escaped.
"""
