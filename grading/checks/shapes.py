"""Values from JSON that anybody may have written: whether they have a shape, how to show them."""

import reprlib

LONGEST, LARGEST = 1000, 1e12  # items or characters; numbers
KINDS = {
    str: ("a text", lambda v: isinstance(v, str) and len(v) <= LONGEST),
    int: ("a whole number", lambda v: type(v) is int and 0 <= v < LARGEST),
    float: ("a finite number", lambda v: type(v) in (int, float) and abs(v) < LARGEST),
}


def misfit(value, shape, where: str) -> tuple[str, bool, str, str] | None:
    """Return what in a value from JSON is not of a shape, as a finding that failed, or None.

    A shape is a type, a list of the shape that all items have, or a dictionary of the shapes of
    what must be there.
    """
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return where, False, short(value), f"an object with {', '.join(shape)}"
        if missing := [key for key in shape if key not in value]:
            return where, False, f"no {missing[0]}", f"an object with {', '.join(shape)}"
        parts = ((value[key], each, f"{where}.{key}") for key, each in shape.items())
    elif isinstance(shape, list):
        if not isinstance(value, list) or len(value) > LONGEST:
            got = f"{len(value):,} items" if isinstance(value, list) else short(value)
            return where, False, got, f"a list of at most {LONGEST:,} items"
        parts = ((each, shape[0], f"{where}[{i}]") for i, each in enumerate(value))
    else:
        expected, fits = KINDS[shape]
        return None if fits(value) else (where, False, short(value), expected)
    for part in parts:
        if wrong := misfit(*part):
            return wrong
    return None


def short(value) -> str:
    """Return a value from JSON in a few characters that any terminal prints."""
    text = reprlib.repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
