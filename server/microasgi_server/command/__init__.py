"""Serving from a command line, or as comfortably from a program.

levels.py   the levels of the log, and what sets it up where nobody has
targets.py  from `module:attribute` to an app
foreign.py  what to write instead of other servers' options
parser.py   a parser made of the table in `options.py`, and its errors in one line
run.py      `run`
main.py     the command `python -m microasgi_server`, and how a command ends
"""
