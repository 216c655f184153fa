"""The home of Reprompt's GPU worker; this version depends on reprompt-core and reprompt-gpu and holds no worker loop."""

__all__: list[str] = []
