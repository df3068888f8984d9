"""`python -m microasgi` is the command `microasgi`."""

from microasgi.cli import main

if __name__ == "__main__":
    main()
