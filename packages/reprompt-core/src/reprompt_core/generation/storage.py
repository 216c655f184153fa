"""Where audio is kept: a folder, or object storage. A file is there whole or not at all."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import AudioStoreError, SettingsError
from ..settings import Settings

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["AudioStore"]

_SCHEMES = {"s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "https"}


class AudioStore:
    """Files by name. Build with `AudioStore.open`.

    A local folder is written beside and renamed; object storage is uploaded whole.
    """

    def __init__(self, store: "ObjectStore", where: str) -> None:
        self._store = store
        self.where = where  # for people

    @classmethod
    def open(cls, settings: Settings, *, timeout_s: float = 60.0) -> "AudioStore":
        """The store of REPROMPT_AUDIO_URL, or the folder `audio` of the data folder. Nothing is read or written yet.

        Args:
            settings: with the address.
            timeout_s: seconds for one request to object storage, and for its retries; not for a folder.

        Raises:
            SettingsError: the address cannot be used.
            AudioStoreError: the folder cannot be made.
        """
        from obstore.exceptions import BaseError
        from obstore.store import LocalStore, from_url

        url = settings.audio_url
        parts = urlsplit(url or "")
        if url is None or parts.scheme in {"", "file"}:
            folder = settings.data_dir / "audio" if url is None else Path(parts.path).expanduser().absolute()
            try:
                folder.mkdir(parents=True, exist_ok=True)
                return cls(LocalStore(folder), str(folder))
            except (OSError, BaseError) as e:
                raise AudioStoreError(
                    f"The audio folder {folder} cannot be used ({_reason(e)}); set REPROMPT_AUDIO_URL to another."
                ) from e
        if parts.scheme not in _SCHEMES or "@" in parts.netloc or not parts.netloc:
            raise SettingsError(
                "REPROMPT_AUDIO_URL must be a folder, or s3://bucket/prefix, gs://... or az://...; credentials go into "
                "the variables of the provider (AWS_ACCESS_KEY_ID, ...), not into the address"
            )
        try:
            # a store that is away must fail while the attempt can still say so
            store: Any = from_url(
                url,
                client_options={"timeout": timedelta(seconds=timeout_s), "connect_timeout": "10s", "allow_http": True},
                retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=timeout_s)},
            )
        except (BaseError, ValueError) as e:
            raise SettingsError(f"REPROMPT_AUDIO_URL cannot be used: {_reason(e)}") from e
        return cls(store, f"{parts.scheme}://{parts.netloc}{parts.path}")

    async def put(self, key: str, content: bytes) -> None:
        """Keeps a file; one that is there is replaced. Cancelled meanwhile, it is kept and then raises.

        Raises:
            AudioStoreError: it could not be kept; nothing of it is left.
        """
        import obstore

        with _Translated(self.where, "kept"):
            putting = asyncio.ensure_future(obstore.put_async(self._store, key, content, use_multipart=False))
            try:
                await asyncio.shield(putting)
            except asyncio.CancelledError:
                await asyncio.wait([putting])  # who removes it after this finds it
                raise

    async def get(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        """The bytes of a file from `start` up to before `end`.

        Raises:
            AudioStoreError: it is not there, or cannot be read.
        """
        import obstore

        with _Translated(self.where, "read"):
            if start == 0 and end is None:
                return bytes(await (await obstore.get_async(self._store, key)).bytes_async())
            size = end if end is not None else await self.size(key)
            return bytes(await obstore.get_range_async(self._store, key, start=start, end=size))

    async def stream(self, key: str, *, start: int, end: int, chunk: int = 1 << 18) -> AsyncIterator[bytes]:
        """The same in chunks, so that a long file does not fill the memory.

        Raises:
            AudioStoreError: it is not there, or cannot be read.
        """
        for at in range(start, end, chunk):
            yield await self.get(key, start=at, end=min(at + chunk, end))

    async def size(self, key: str) -> int:
        """Bytes of a file.

        Raises:
            AudioStoreError: it is not there, or cannot be reached.
        """
        import obstore

        with _Translated(self.where, "read"):
            return int((await obstore.head_async(self._store, key))["size"])

    async def keys(self, prefix: str) -> list[str]:
        """The files under a folder.

        Raises:
            AudioStoreError: they cannot be listed.
        """
        import obstore

        with _Translated(self.where, "listed"):
            return [str(item["path"]) async for batch in obstore.list(self._store, prefix) for item in batch]

    async def remove(self, prefix: str) -> int:
        """Deletes what lies under a folder; the number of files.

        Raises:
            AudioStoreError: they cannot be deleted, or everything would be.
        """
        import obstore

        prefix = prefix.strip("/")
        if not prefix:
            raise AudioStoreError("Audio is deleted folder by folder, not all at once.")
        found = await self.keys(prefix)
        with _Translated(self.where, "deleted"):
            if found:
                await obstore.delete_async(self._store, found)
        if self._is_local:
            await asyncio.to_thread(_prune, Path(self.where) / prefix, Path(self.where))
        return len(found)

    @property
    def _is_local(self) -> bool:
        return "://" not in self.where


class _Translated:
    """Errors of the store in our words."""

    def __init__(self, where: str, done: str) -> None:
        self._where, self._done = where, done

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        from obstore.exceptions import BaseError

        if isinstance(error, BaseError | OSError | ValueError):
            raise AudioStoreError(f"Audio could not be {self._done} in {self._where}: {_reason(error)}") from error


def _prune(folder: Path, root: Path) -> None:
    """Removes a folder, with what a process that was killed while it wrote left in it, and empty ones above it."""
    shutil.rmtree(folder, ignore_errors=True)
    for above in folder.parents:
        if above == root:
            break
        with suppress(OSError):  # it holds something, or is gone
            above.rmdir()


def _reason(error: BaseException) -> str:
    """The first line of an error of the store, without the addresses and traces that follow it."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
