"""`python -m microasgi_server module:app` serves an app. Ctrl+C is no traceback, also while the command itself is being imported."""


def main() -> None:
    try:
        from microasgi_server.command.main import main as command

        command()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
