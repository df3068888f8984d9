"""`python -m microasgi_server module:app` serves an app."""

from microasgi_server.command.main import main

if __name__ == "__main__":
    main()
