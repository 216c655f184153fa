"""`python -m reprompt_worker` is `reprompt-worker`."""

from .cli import main

main()
