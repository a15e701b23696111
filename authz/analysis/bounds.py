"""How far an analysis goes; what lies beyond is named in its answer, never left out silently."""

MAXIMUM_POINTS = 50_000
"""Representatives of one dimension of one destination."""

MAXIMUM_BOXES = 50_000
"""Boxes that the rules of one set make of one destination."""

MAXIMUM_STEPS = 200_000
"""Nodes that are looked at for one destination."""

MAXIMUM_DESTINATIONS = 20_000
"""Kinds of destinations that one analysis looks at."""

MAXIMUM_STATES = 50_000
"""States of the automaton that tells path templates apart."""

MAXIMUM_SUBSETS_OF = 8
"""Kinds of values of which every combination is looked at, where a claim holds several."""


class TooLarge(Exception):
    """A bound was reached; the text says of what."""
