"""Deletion requests: `inbox` takes them in, `journal` is what happened to them, `turn` decides what happens next,
`matching` finds the people they are about, `requirements` what a model must meet to answer them, `certificate` tells
the result.

All of it lies below `requests/` in the store that UNSEE_STORE names; nothing there is ever replaced or deleted.
"""
