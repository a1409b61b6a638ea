"""``python -m collapse_book``."""

from collapse_book.cli import main

if __name__ == "__main__":
    main()
