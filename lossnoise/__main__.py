"""``python -m lossnoise``: the same as the command ``lossnoise``."""

from __future__ import annotations

from lossnoise.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
