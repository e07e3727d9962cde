"""`python -m veduta` is `veduta`."""

from veduta.cli.main import main

main()
