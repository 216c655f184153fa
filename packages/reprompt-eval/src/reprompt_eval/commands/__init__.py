"""The commands of `reprompt-eval`, a file for each; `cli.py` names them.

Typer looks at a command's signature when it starts, so a file imports at its top only what is quick; scipy, torch and
their like are imported in the function.
"""
