"""``python -m glimpse.cli``: the `glimpse` command of this interpreter."""

from glimpse.cli import main

main()
