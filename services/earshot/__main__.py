"""``python -m earshot`` is ``earshot``."""

from earshot.cli import main

if __name__ == "__main__":
    main()
