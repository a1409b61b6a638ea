"""Numbers for the prose of a chapter."""

from __future__ import annotations


def glue(name: str, text: str) -> None:
    """Store a formatted number so that the prose of the same page can quote it.

    Writes the output metadata of myst-nb's own ``glue`` (so the role ``{glue:text}`` finds it)
    and needs neither myst-nb nor a recent IPython.

    Parameters
    ----------
    name : str
        Key, unique in its notebook.
    text : str
        The number as the sentence should show it.

    Raises
    ------
    TypeError
        If `text` is not a str: format the number first.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a str that is already formatted, got {text!r} for {name!r}")
    from IPython.display import display

    prefix = "application/papermill.record/"
    display(
        # repr, because myst-nb evaluates the stored text: "4,000" would become a tuple
        {prefix + "text/plain": repr(text)},
        raw=True,
        metadata={"scrapbook": {"name": name, "mime_prefix": prefix}},
    )
