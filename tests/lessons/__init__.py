"""Ten lessons: ASGI, from a function that is called by hand to the code of this repository. `python -m tests.lessons` lists them."""
