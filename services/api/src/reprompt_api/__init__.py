"""The home of Reprompt's REST API; this version depends on reprompt-core and holds no routes."""

__all__: list[str] = []
