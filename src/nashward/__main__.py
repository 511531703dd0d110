"""Where the command begins: torch takes a second to import, in which Ctrl-C may come already."""

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
