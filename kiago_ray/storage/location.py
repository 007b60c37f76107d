"""A place for files: a local path, or any URI that pyarrow's filesystems open (file://, s3://, gs://,
hdfs://).

Files appear whole or not at all: they are written under a temporary name beside the final one, then moved. On s3://
they are uploaded at the end instead, so that no temporary object is ever there.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
from pyarrow import fs

from kiago_ray.errors import KiagoError
from kiago_ray.storage.s3 import open_s3, s3_reason, upload, uploading

_PASSWORD = r"^[^/]*://[^/?#]*:[^/?#]*@|\?(.*&)?[^=&]*(key|secret|token|password|credential)[^=&]*="

TEMPORARY = ".tmp"  # the ending of files that are being written


class StorageError(KiagoError):
    """Something can't be read or written. The message is one line: where, why, and what to do."""

    status = 503


@dataclass(frozen=True)
class Location:
    """One file or directory. text: as the user wrote it, for messages."""

    text: str
    filesystem: Any
    path: str

    @classmethod
    def of(cls, where: Where) -> Location:
        """The place that a path or URI names. Raises StorageError where nothing can open it."""
        if isinstance(where, Location):
            return where
        text = os.fspath(where)
        if not text or "\0" in text:
            raise StorageError(f"{text!r} names no file or directory; give a path such as 'runs/LaNiAsO'")
        if "://" not in text:
            try:
                path = str(Path(text).expanduser().absolute())
            except RuntimeError as error:
                raise StorageError(f"can't open {text}: {error}") from error
            return cls(text, fs.LocalFileSystem(), path)
        scheme = text.partition("://")[0]
        if re.search(_PASSWORD, text, re.IGNORECASE):
            raise StorageError(f"a place ({scheme}://…) holds no credentials; give them in the environment")
        try:
            opened = open_s3(text) if scheme == "s3" else fs.FileSystem.from_uri(text)
        except (OSError, pa.ArrowException) as error:
            raise StorageError(f"can't open {text}: {reason(error)}") from error
        except ValueError as error:
            raise StorageError(str(error)) from error
        return cls(text, *opened)

    def __truediv__(self, name: str) -> Location:
        path = f"{self.path.rstrip('/')}/{name}"
        if "://" not in self.text:
            return Location(f"{self.text.rstrip('/')}/{name}", self.filesystem, path)
        place, mark, options = self.text.partition("?")
        text = f"{place.rstrip('/')}/{quote(name, safe='/+=@,!$&()*;:')}{mark}{options}"
        return Location(text, self.filesystem, path)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]

    def kind(self) -> str:
        """ "file", "directory" or "nothing". Raises StorageError where even that can't be asked."""
        with self._failing("open"):
            info = self.filesystem.get_file_info(self.path)
        return {fs.FileType.NotFound: "nothing", fs.FileType.Directory: "directory"}.get(info.type, "file")

    def entries(self) -> list[str]:
        """Names in this directory, sorted; none where it doesn't exist. Raises StorageError."""
        with self._failing("list"):
            found = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        return sorted(str(info.base_name) for info in found)

    def make_directory(self) -> None:
        """Make this directory and those above it; on s3://, where only files exist, nothing. Raises StorageError."""
        if not self._on_s3:
            with self._failing("make the directory"):
                self.filesystem.create_dir(self.path, recursive=True)

    def read_bytes(self) -> bytes:
        """The file's contents. Raises StorageError."""
        with self._failing("read"), self.filesystem.open_input_stream(self.path) as stream:
            return bytes(stream.read())

    def write_bytes(self, contents: bytes) -> None:
        """Put the file there, whole or not at all, in place of what was there. Raises StorageError."""
        if self._on_s3:
            with self._failing("write"):
                upload(self.filesystem, self.path, contents)
        else:
            with self.writing() as stream:
                stream.write(contents)

    def delete(self) -> None:
        """Remove the file, if there is one. Raises StorageError."""
        with (
            suppress(FileNotFoundError),
            self._failing("remove", FileNotFoundError),
        ):  # another may be quicker
            if self.kind() == "file":
                self.filesystem.delete_file(self.path)

    def delete_all(self) -> None:
        """Remove the directory, if there is one, and all that is in it. Raises StorageError."""
        with suppress(FileNotFoundError), self._failing("remove", FileNotFoundError):
            self.filesystem.delete_dir(self.path)

    @contextmanager
    def writing(self) -> Iterator[Any]:
        """A stream whose bytes become the file when the block ends without an error. Raises StorageError."""
        with (
            self._failing("write"),
            uploading(self.filesystem, self.path) if self._on_s3 else self._moving() as stream,
        ):
            yield stream

    @contextmanager
    def _failing(self, what: str, *but: type[BaseException]) -> Iterator[None]:
        """Failures of the block as StorageError that says what can't be done, except those of `but`."""
        try:
            yield
        except but:
            raise
        except (OSError, pa.ArrowException) as error:
            raise StorageError(f"can't {what} {self.text}: {reason(error)}") from error

    @contextmanager
    def _moving(self) -> Iterator[Any]:
        """A stream to a temporary file, moved into place when the block ends without an error."""
        parent = self.path.rstrip("/").rpartition("/")[0]
        temporary = f"{parent}/.{self.name}.{uuid.uuid4().hex}{TEMPORARY}"
        try:
            with self.filesystem.open_output_stream(temporary) as stream:
                yield stream
            if self.filesystem.type_name == "local":
                with open(temporary, "rb") as file:
                    os.fsync(file.fileno())  # else a power cut could leave the name without its contents
            self.filesystem.move(temporary, self.path)
        except BaseException:  # Ctrl-C too: nothing half-written stays
            with suppress(OSError, pa.ArrowException):
                self.filesystem.delete_file(temporary)
            raise

    @property
    def _on_s3(self) -> bool:
        return bool(self.filesystem.type_name == "s3")


Where = Location | str | os.PathLike[str]
"""How a caller may name a place."""


def reason(error: BaseException) -> str:
    """Why an operation failed, in one line: the system's own words where it gave an error number."""
    of_s3 = s3_reason(str(error))
    if of_s3:
        return of_s3
    number = getattr(error, "errno", None)
    if isinstance(number, int):
        return os.strerror(number)
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
