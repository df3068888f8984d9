"""The clients: those who ask, those who wait, and those who leave.

Most are processes of their own, so that neither the progress bar nor another client disturbs their clock: see `remote`.
"""
