"""A place for files: a local path, or any URI that pyarrow's filesystems open (file://, s3://, gs://,
hdfs://).

Files appear whole or not at all: they are written under a temporary name beside the final one, then moved. On s3://
they are uploaded at the end instead, so that no temporary object is ever there.

Facts of pyarrow 25 that decide how: its S3FileSystem doesn't read AWS_ENDPOINT_URL; closing a stream of it, in an
error or a destructor too, completes the object with what was written so far; so does a part that fails without
`background_writes`, and a delayed open that fails; `copy_files` doesn't tell of a failed upload.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import pyarrow as pa
from pyarrow import fs

from kiago_ray.errors import InputError, KiagoError

TEMPORARY = ".tmp"  # the ending of files that are being written
CONNECT_S = 5.0
SILENCE_S = 30.0  # without a byte, then a request to S3 has failed
AT_ONCE = 32  # requests to a remote storage
ATTEMPTS = 4  # with about 0.5, 1 and 2 s between them
_PASSWORD = r"^[^/]*://[^/?#]*:[^/?#]*@|\?(.*&)?[^=&]*(key|secret|token|password|credential)[^=&]*="
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, AWS_PROFILE, or the machine's role"
)
_ONE_SLASH = re.compile(r"(s3|gs|hdfs|[A-Za-z][A-Za-z0-9+.-]+(?=:/)):(?!//)", re.IGNORECASE)
_LONGEST_DETAIL = 200
# What the AWS SDK says: its code, or its code and the HTTP status → what that means and what to do.
_REFUSALS = {
    "NETWORK_CONNECTION": "no connection to S3; check the network, AWS_ENDPOINT_URL and AWS_CA_BUNDLE",
    "ACCESS|SIGNATURE|TOKEN|CREDENTIAL|AUTH| 40[013]$": f"S3 refuses it; check {_CREDENTIALS}, and what they may do "
    "in this bucket",
    "^(SLOW_DOWN|INTERNAL_FAILURE|SERVICE_UNAVAILABLE) | 50[0234]$": "S3 is busy or failing; try again",
}


class StorageError(KiagoError):
    """Something can't be read or written. The message is one line: where, why, and what to do."""

    status = 503


class MissingError(StorageError):
    """A file or directory that isn't there."""


@dataclass(frozen=True)
class Location:
    """One file or directory. text: as the user wrote it, for messages."""

    text: str
    filesystem: Any
    path: str

    @classmethod
    def of(cls, where: Where) -> Location:
        """The place that a path or URI names. Raises StorageError where nothing can open it, InputError for a URI that
        lacks a slash.
        """
        if isinstance(where, Location):
            return where
        text = os.fspath(where)
        if not text or "\0" in text:
            raise StorageError(f"{text!r} names no file or directory; give a path such as 'runs/LaNiAsO'")
        scheme, remote, _ = text.partition("://")
        check_slashes(text)
        if remote and re.search(_PASSWORD, text, re.IGNORECASE):
            raise StorageError(f"a place ({scheme}://…) holds no credentials; give them in the environment")
        try:
            if not remote:
                return cls(text, fs.LocalFileSystem(), str(Path(text).expanduser().absolute()))
            return cls(text, *(open_s3(text) if scheme == "s3" else fs.FileSystem.from_uri(text)))
        except (OSError, RuntimeError, pa.ArrowException) as error:
            raise StorageError(f"can't open {text}: {reason(error)}") from error
        except ValueError as error:
            raise StorageError(str(error)) from error

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

    def changed_at(self) -> float | None:
        """When the file was written last, in seconds since 1970; None where it can't be told. Raises StorageError."""
        with self._failing("open"):
            changed_ns = self.filesystem.get_file_info(self.path).mtime_ns
        return None if changed_ns is None else changed_ns / 1e9

    def entries(self) -> list[str]:
        """Names in this directory, sorted; none where it doesn't exist. Raises StorageError."""
        found: list[Any] = []
        # A file in the directory's place holds nothing; whoever writes there hears of it.
        with self._failing("list"), suppress(NotADirectoryError):
            found = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        return sorted(str(info.base_name) for info in found)

    def files(self, names: Iterable[str] | None = None) -> dict[str, Stamp]:
        """The stamps of files below this directory, by their paths from it: of those of these names that are there, by
        default of all, which takes a request a thousand files. Raises StorageError.
        """
        infos: list[Any] = []
        with self._failing("list"), suppress(NotADirectoryError):
            if names is None:
                infos = self.filesystem.get_file_info(
                    fs.FileSelector(self.path, allow_not_found=True, recursive=True)
                )
            else:
                infos = self.filesystem.get_file_info([(self / name).path for name in names])
        # A storage may tell the time more exactly in a list than of one file.
        exact = 1 if self.filesystem.type_name == "local" else 10**9
        start = len(self.path.rstrip("/")) + 1
        return {
            str(info.path)[start:]: (info.size, (info.mtime_ns or 0) // exact)
            for info in infos
            if info.type == fs.FileType.File
        }

    def versions(self) -> dict[str, tuple[int, int]]:
        """Name → when it was written last, in ns since 1970, and its bytes, of each file in this directory, sorted; on
        s3:// one request for a thousand of them, and times are whole seconds. Raises StorageError.
        """
        with self._failing("list"):
            found = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        files = sorted((info.base_name, info.mtime_ns or 0, info.size) for info in found if info.is_file)
        return {str(name): (mtime_ns, size) for name, mtime_ns, size in files}

    def make_directory(self) -> None:
        """Make this directory and those above it; on s3://, where only files exist, nothing. Raises StorageError."""
        if self.filesystem.type_name != "s3":
            with self._failing("make the directory"):
                self.filesystem.create_dir(self.path, recursive=True)

    def read_bytes(self) -> bytes:
        """The file's contents. Raises StorageError."""
        with self._failing("read"), self.filesystem.open_input_stream(self.path) as stream:
            return bytes(stream.read())

    def read_if_there(self) -> bytes | None:
        """The file's contents; None where there is none. Raises StorageError."""
        with suppress(MissingError):
            return self.read_bytes()
        return None

    def read_mapping(self) -> dict[str, Any]:
        """The mapping in a JSON file; {} where there is none, half of one or something else. Raises StorageError."""
        with suppress(ValueError, RecursionError):
            content = json.loads(self.read_if_there() or b"null")
            return content if isinstance(content, dict) else {}
        return {}

    def sha256(self) -> str:
        """SHA-256 of the file, read piece by piece. Raises StorageError."""
        with (
            self._failing("read"),
            self.filesystem.open_input_stream(self.path, buffer_size=1 << 22) as stream,
        ):
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def write_bytes(self, contents: Any) -> None:
        """Put the file there, whole or not at all, in place of what was there. contents: bytes, or a buffer of them.
        Raises StorageError.
        """
        with self._failing("write"):
            if self.filesystem.type_name == "s3":
                # Ctrl-C stops the main thread alone. Here it could close the stream before all was written.
                with ThreadPoolExecutor(1, "upload") as aside:
                    aside.submit(_put, self.filesystem, self.path, contents).result()
            else:
                self._move_in(contents)

    def write_all(self, files: Mapping[str, Any]) -> None:
        """Put files into this directory in their order, each as `write_bytes` does. files: name → bytes, or a text,
        which becomes UTF-8.
        """
        for name, contents in files.items():
            (self / name).write_bytes(contents.encode("utf-8") if isinstance(contents, str) else contents)

    def try_out(self) -> None:
        """Raise StorageError where no file can be written here, before the work: an empty one is tried beside it."""
        trial = Location(self.text, self.filesystem, f"{self.path}.{uuid.uuid4().hex}{TEMPORARY}")
        trial.write_bytes(b"")
        trial.delete()

    def delete(self) -> None:
        """Remove the file, if there is one. Raises StorageError."""
        with suppress(MissingError), self._failing("remove"):  # another process may be quicker
            if self.kind() == "file":
                self.filesystem.delete_file(self.path)

    def delete_all(self) -> None:
        """Remove the directory, if there is one, and all that is in it. Raises StorageError."""
        with suppress(MissingError), self._failing("remove"):
            self.filesystem.delete_dir(self.path)

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        """Failures of the block as StorageError that says what can't be done."""
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            kind = MissingError if missing else StorageError
            raise kind(f"can't {what} {self.text}: {reason(error)}") from error

    def _move_in(self, contents: Any) -> None:
        """Write a temporary file beside this one and move it into place."""
        parent = self.path.rstrip("/").rpartition("/")[0]
        temporary = f"{parent}/.{self.name}.{uuid.uuid4().hex}{TEMPORARY}"
        try:
            _put(self.filesystem, temporary, contents)
            if self.filesystem.type_name == "local":
                with open(temporary, "rb") as file:
                    os.fsync(file.fileno())  # else a power cut could leave the name without its contents
            self.filesystem.move(temporary, self.path)
        except BaseException:  # Ctrl-C too: nothing half-written stays
            with suppress(OSError, pa.ArrowException):
                self.filesystem.delete_file(temporary)
            raise


def check_slashes(text: str) -> None:
    """Raise InputError for a URI that lacks a slash, s3:/bucket/x, which would be a folder named s3:."""
    if (found := _ONE_SLASH.match(text)) is not None:
        root = "/" if found[1].lower() == "file" else ""
        meant = f"{found[1]}://{root}{text[found.end() :].lstrip('/')}"
        raise InputError(f"{text} lacks a slash; write {meant}, or ./{text} for a folder of that name")


def _put(filesystem: Any, path: str, contents: Any) -> None:
    with filesystem.open_output_stream(path) as stream:
        stream.write(contents)


Where = Location | str | os.PathLike[str]
"""How a caller may name a place."""
Stamp = tuple[int, int]
"""A file's size in bytes and when it was written last; 0 where that can't be told."""
Item = TypeVar("Item")
Found = TypeVar("Found")


def read_all(read: Callable[[Item], Found], items: Iterable[Item]) -> list[Found]:
    """What `read` gives for each item. Several are read at a time: on a remote storage that is mostly waiting."""
    with ThreadPoolExecutor(AT_ONCE) as readers:
        return list(readers.map(read, items))


def read_ahead(read: Callable[[Item], Found], items: Iterable[Item], most: int = AT_ONCE) -> Iterator[Found]:
    """What `read` gives for each item, in their order. No more than `most` are read before they are taken, so that
    little memory holds them.
    """
    with ThreadPoolExecutor(most) as readers:
        reading: deque[Future[Found]] = deque()
        try:
            for item in items:
                reading.append(readers.submit(read, item))
                if len(reading) == most:
                    yield reading.popleft().result()
            while reading:
                yield reading.popleft().result()
        finally:
            for each in reading:
                each.cancel()


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


def open_s3(uri: str) -> tuple[Any, str]:
    """The filesystem and path (bucket/key) of s3://bucket/key, % decoded, with options such as ?region=eu-west-1.

    Credentials come from where the AWS SDK looks (environment, profile, role), the endpoint from
    AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, the region from AWS_REGION or AWS_DEFAULT_REGION, else from the bucket.
    Raises ValueError, in one line without what may be secret, and OSError where the region can't be found out.
    """
    place, _, query = uri.partition("://")[2].partition("?")
    bucket, _, key = place.partition("/")
    options = dict(parse_qsl(query, keep_blank_values=True))
    endpoint = options.get("endpoint_override", _environment("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
    parts = unquote(key).rstrip("/").split("/") if key else []
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", bucket):
        raise ValueError(
            "an s3:// place names its bucket, in letters, digits and . _ -, as in s3://BUCKET/PATH; it holds no "
            f"credentials, give {_CREDENTIALS}"
        )
    if "#" in place or any(part in ("", ".", "..") or min(part) < " " or "\ufffd" in part for part in parts):
        raise ValueError(
            f"s3://{' '.join(place.split())} has an empty part, . or .., what is no character, or # (write %23)"
        )
    if not options.keys() <= {"region", "endpoint_override", "scheme"}:
        raise ValueError("an s3:// place has an unknown option; there are region, endpoint_override, scheme")
    if options.get("scheme", "https") not in ("http", "https"):
        raise ValueError("the scheme of an s3:// place is http or https")
    if "@" in endpoint:
        raise ValueError(f"an endpoint of S3 holds no credentials; give {_CREDENTIALS}")
    if "://" in endpoint and not re.match(r"https?://[^/]", endpoint):
        raise ValueError(f"the endpoint {endpoint} is no address; give one such as https://s3.example.org")
    region = options.get("region") or _environment("AWS_REGION", "AWS_DEFAULT_REGION")
    if not region and not endpoint:
        region = fs.resolve_s3_region(bucket)
    filesystem = fs.S3FileSystem(
        region=region or None,
        endpoint_override=endpoint or None,
        scheme=options.get("scheme"),
        connect_timeout=CONNECT_S,
        request_timeout=SILENCE_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        proxy_options=_proxy(options.get("scheme"), endpoint or f"s3.{region}.amazonaws.com"),
        tls_ca_file_path=_environment("AWS_CA_BUNDLE") or None,
    )
    return filesystem, "/".join((bucket, *parts))


def _proxy(scheme: str | None, endpoint: str) -> str | None:
    """The proxy that the environment names for an endpoint, as Python's HTTP finds it: the AWS SDK doesn't look."""
    written, _, host = endpoint.rpartition("://")
    proxy = getproxies().get(written or scheme or "https")
    name = urlsplit(f"//{host}").hostname or ""
    if not proxy or proxy_bypass(host) or name == "localhost" or name.startswith("127.") or name == "::1":
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def s3_reason(text: str) -> str | None:
    """What the AWS SDK's message means and what to do about it, in one line; None for another one's message."""
    found = re.search(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))? during (\w+) operation: ?(.*)", text)
    if not found:
        return None
    code, status, operation, rest = found.groups()
    noise = r"^No response body\.?|^Unable to parse ExceptionName: |curlCode: \d+, |\(Request ID.*"
    said = f"{code.replace('UNKNOWN', f'HTTP status {status}')} in {operation}: {re.sub(noise, '', rest)}"
    said = " ".join(said.split()).rstrip(" .:")[:_LONGEST_DETAIL]
    region = re.search(r"(?:located in|expecting) '([\w-]+)'", rest)
    if status == "301" or (region and code == "UNKNOWN"):
        there = f"is in region {region[1]}" if region else "is in another region"
        return f"the bucket {there}; set AWS_REGION to the bucket's ({said})"
    if code == "NO_SUCH_BUCKET":
        return "there is no such bucket; create it, or correct the name"
    meant = next((text for sign, text in _REFUSALS.items() if re.search(sign, f"{code} {status}")), None)
    return said if meant is None else f"{meant} ({said})"


def _environment(*names: str) -> str:
    """The first of these variables that is set, else ""."""
    return next((os.environ[name] for name in names if os.environ.get(name)), "")
