"""Where the command begins: Ctrl-C may come while it is being imported."""

import sys


def main() -> int:
    """``nashward``; see ``cli.main.main``."""
    try:
        from .cli import main as command_line
    except KeyboardInterrupt:
        print("\nnashward: interrupted before anything was begun", file=sys.stderr)
        return 130
    return command_line.main()


if __name__ == "__main__":
    sys.exit(main())
