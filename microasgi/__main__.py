"""The command `microasgi`, also as `python -m microasgi`: Ctrl+C is no traceback, also while the command itself is being imported."""


def main() -> None:
    try:
        from microasgi import cli

        cli.main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
