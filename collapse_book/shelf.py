"""A folder for results, on this disk or anywhere fsspec reaches."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from collapse_book.errors import BadInput, BuildFailed
from collapse_book.files import sweep_parts, write_atomic


class Shelf:
    """Files under one address: a local folder, or ``memory://``, ``s3://``, ``sftp://`` ...

    Parameters
    ----------
    address : str
        Folder or URL; made when something is first written.

    Raises
    ------
    BadInput
        If fsspec does not know the protocol or lacks the package for it, or the address is empty or
        that of a file.
    """

    def __init__(self, address: str) -> None:
        import fsspec
        from fsspec.implementations.local import LocalFileSystem

        if not address.strip():
            raise BadInput("--out is empty: give a folder or a URL")
        self.address = address.rstrip("/") or address
        try:
            self._fs, root = fsspec.core.url_to_fs(address)
        except (ValueError, ImportError) as error:
            raise BadInput(f"--out {address}: {error}") from None
        self._root = root.rstrip("/")
        self._folder = Path(root) if isinstance(self._fs, LocalFileSystem) else None
        if self._folder is not None and self._folder.exists() and not self._folder.is_dir():
            raise BadInput(f"--out {address} is a file: give a folder")

    def place(self, name: str) -> str:
        """Address of a file, for messages."""
        return f"{self.address}/{name}"

    def write(self, name: str, data: bytes) -> None:
        """Write a file so that it is there whole or not at all.

        Raises
        ------
        BuildFailed
            If it cannot be written.
        """
        with self._reaching("write", name):
            if self._folder is not None:
                write_atomic(self._folder / name, data)
                return
            path = self._path(name)
            self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            self._fs.pipe_file(f"{path}.part", data)
            if self._fs.exists(path):
                self._fs.rm_file(path)
            self._fs.mv(f"{path}.part", path)

    def read(self, name: str) -> bytes | None:
        """Content of a file, or None if there is none.

        Raises
        ------
        BuildFailed
            If it is there and cannot be read.
        """
        with self._reaching("read", name):
            try:
                return self._fs.cat_file(self._path(name))
            except FileNotFoundError:
                return None

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._reaching("remove", name), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    def names(self, folder: str, ending: str) -> set[str]:
        """Names of the files of a folder without this ending, such as ``.parquet``."""
        self._fs.invalidate_cache()
        with self._reaching("list", folder):
            try:
                paths = self._fs.ls(self._path(folder), detail=False)
            except FileNotFoundError:
                return set()
        names = (path.rstrip("/").rsplit("/", 1)[-1] for path in paths)
        return {name.removesuffix(ending) for name in names if name.endswith(ending)}

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second sweep out of a local folder; elsewhere there is no lock to hold.

        Raises
        ------
        BuildFailed
            If another sweep holds it.
        """
        if self._folder is None:
            yield
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise BadInput(f"cannot write to {self.address}: {error.strerror}") from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BuildFailed(f"another sweep is writing to {self.address}") from None
            sweep_parts(self._folder)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _reaching(self, verb: str, name: str) -> Iterator[None]:
        """Every file system has errors of its own; all of them end in one line."""
        try:
            yield
        except Exception as error:
            what = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise BuildFailed(f"cannot {verb} {self.place(name)}: {what}") from None

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"
