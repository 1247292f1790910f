"""``python -m fastarchive`` is the command line."""

from fastarchive.cli import main

if __name__ == "__main__":
    main()
