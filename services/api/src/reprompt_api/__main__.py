"""`python -m reprompt_api`."""

from .cli import main

main()
