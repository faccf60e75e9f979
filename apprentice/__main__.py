"""``python -m apprentice`` is the command line."""

from apprentice.faces.cli import main

main()
