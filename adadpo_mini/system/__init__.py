"""What the package needs from the machine.

`files.py` writes files that no kill can spoil, with `paths.py`, `partials.py` and `locks.py`;
`cache.py` keeps results, `signals.py` holds back Ctrl-C, `threads.py` counts threads,
`markdown.py` writes tables.
"""
