"""Questions about every request at once: what a change opens and closes, who can call whom.

    strings, templates, identities, addresses   one representative of each kind of value that
                                                the terms in question can tell apart
    space        the dimensions of a request, and the terms as sets of their representatives
    regions      boxes, and where two verdicts differ
    destinations the kinds of workloads that selectors can tell apart
    difference, access, reach    the questions; words, report: the answers

Exact for complete requests: nothing is sampled. What a bound cuts off is named, never left out.
"""
