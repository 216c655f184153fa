"""The home of Reprompt's MusicGen inference; this version reserves the name and holds no model code."""

__all__: list[str] = []
