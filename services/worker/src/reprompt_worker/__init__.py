"""The GPU worker: takes jobs from the queue or from RunPod, and makes them with MusicGen."""

__all__: list[str] = []
