"""The home of Reprompt's CLAP scoring and experiments; this version reserves the name and holds no scoring code."""

__all__: list[str] = []
