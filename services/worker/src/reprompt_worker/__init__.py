"""The home of Reprompt's GPU worker; this version holds no worker loop."""

__all__: list[str] = []
