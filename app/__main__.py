"""`python -m app` is `dyno`."""

from app.cli import main

main()
