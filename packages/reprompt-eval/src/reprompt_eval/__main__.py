"""`python -m reprompt_eval`."""

from .cli import main

main()
