"""Data frames out of the files of R, `.rda`; nothing in them is run."""

from typing import Any


def data_frame(content: bytes, name: str) -> Any:
    """The pandas.DataFrame of a name in an `.rda` file.

    Raises:
        ValueError: There is none of the name.
    """
    import pandas as pd
    import rdata

    # A file of an older R does not say its encoding.
    found = rdata.conversion.convert(rdata.parser.parse_data(content), default_encoding="utf-8")
    if not isinstance(found.get(name), pd.DataFrame):
        names = ", ".join(map(str, found))
        raise ValueError(f"name: got {name!r}, expected a data frame of those in the file: {names}")
    return found[name]
