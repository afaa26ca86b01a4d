"""A typed client of the HTTP API. Needs httpx, no torch and no Ray.

with Client("http://127.0.0.1:8000") as client:
    print(client.models())
    client.render("photo.jpg", "speech.wav", "out.mp4", RenderControls(seed=3))
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from ifmdm_core import errors
from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput, Busy, IfmdmError, NotFound, Unavailable
from ifmdm_core.media.files import input_file, published
from serve.frame_counter import FrameCounter

CONNECT_S, SILENCE_S = 10.0, 600.0
"""Seconds to connect, and without a byte of an answer."""
FILE_S = 120.0
"""Seconds that a finished file may take to be stored after its stream has ended."""
_CLASSES: dict[int, type[IfmdmError]] = {
    401: errors.Forbidden, 403: errors.Forbidden, 404: NotFound, 409: errors.Conflict, 429: Busy,
    499: errors.Cancelled, 503: Unavailable, 504: errors.Expired, 507: errors.DiskFull,
}  # fmt: skip

Progress = Callable[[int, int], None]
"""Called with (frames received, frames in all)."""


@dataclass(frozen=True)
class Rendered:
    """A render that was fetched."""

    id: str
    frames: int
    identity: str
    """Digest of the portrait, to be given instead of it."""
    note: str
    """What you should know, such as which of several faces was taken."""
    first_byte_s: float
    seconds: float
    """From the request to the first byte of video, and to the whole file."""


@dataclass(frozen=True)
class ServedModel:
    """A bundle that can be asked for."""

    name: str
    sha256: str
    size: int
    default: bool


class Streamed:
    """The answer to a render: its pieces as they come."""

    def __init__(self, answer: httpx.Response, began: float) -> None:
        self._answer, self._began = answer, began
        headers = answer.headers
        self.id: str = headers["x-ifmdm-render-id"]
        self.frames = int(headers["x-ifmdm-frames"])
        self.identity: str = headers["x-ifmdm-identity"]
        self.note: str = headers.get("x-ifmdm-note", "")
        self.first_byte_s = 0.0
        """Seconds from the request to the first piece; 0 before it."""

    def __iter__(self) -> Iterator[bytes]:
        """Pieces of the MP4. Raises Unavailable where the connection breaks before its end."""
        try:
            for piece in self._answer.iter_raw():
                self.first_byte_s = self.first_byte_s or time.monotonic() - self._began
                yield piece
        except httpx.TransportError as error:
            raise Unavailable(
                f"the render {self.id} broke off ({type(error).__name__})", fix="try again"
            ) from error


class Client:
    """One service, for one thread.

    Args:
        server: its address, such as http://127.0.0.1:8000.
        token: where it asks for one.
        patience_s: seconds that a busy service is asked again for.

    Every method raises what the service says: BadInput, NotFound, Forbidden, Conflict, Busy, Unavailable.
    """

    def __init__(self, server: str, token: str | None = None, patience_s: float = 60.0) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
        try:
            self._http = httpx.Client(base_url=server, headers=headers, timeout=timeout)
        except (httpx.InvalidURL, ValueError) as error:
            raise BadInput(f"{server!r} is no address: {error}", fix="write it as http://host:port") from None
        self.server, self._patience_s = server, patience_s

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends its connections."""
        self._http.close()

    @contextmanager
    def stream(
        self,
        portrait: str | Path,
        audio: str | Path,
        controls: RenderControls | None = None,
        *,
        model: str | None = None,
        consent: str | None = None,
    ) -> Iterator[Streamed]:
        """A render whose pieces are walked through while they are made; leaving the block stops it.

        Args:
            portrait: a file, an s3:// URI that the service may read, or the digest of a registered portrait.
            audio: a file, or such a URI.
            consent: reference to the shown person's consent.
        """
        fields = {"controls": (controls or RenderControls()).model_dump_json(exclude_defaults=True)}
        for name, value in (("model", model), ("consent", consent)):
            if value is not None:
                fields[name] = value
        began = time.monotonic()
        with ExitStack() as held:
            files = _inputs(fields, {"portrait": portrait, "audio": audio}, held)
            answer = self._ask("POST", "/v1/render", data=fields, files=files)
            held.callback(answer.close)
            yield Streamed(answer, began)

    def render(
        self,
        portrait: str | Path,
        audio: str | Path,
        output: str | Path,
        controls: RenderControls | None = None,
        *,
        model: str | None = None,
        consent: str | None = None,
        progress: Progress | None = None,
    ) -> Rendered:
        """Renders to the file `output`: the finished, signed one, written whole or not at all. See `stream`."""
        began = time.monotonic()
        with self.stream(portrait, audio, controls, model=model, consent=consent) as streamed:
            counter = FrameCounter()
            for piece in streamed:
                counter.add(piece)
                if progress is not None:
                    progress(counter.frames, streamed.frames)
        if counter.frames != streamed.frames:
            raise Unavailable(
                f"the render {streamed.id} broke off after {counter.frames} of {streamed.frames} frames",
                fix="try again",
            )
        self.fetch(streamed.id, output)
        return Rendered(
            streamed.id, counter.frames, streamed.identity, streamed.note, streamed.first_byte_s,
            time.monotonic() - began,
        )  # fmt: skip

    def fetch(self, id: str, output: str | Path) -> None:
        """The finished file of a render, into the file `output`."""
        answer = self._ask("GET", f"/v1/files/{id}", patience_s=FILE_S)
        with published(output) as temporary, temporary.open("wb") as file:
            try:
                for piece in answer.iter_raw():
                    file.write(piece)
            except httpx.TransportError as error:
                raise Unavailable(f"the file {id} broke off", fix="try again") from error
            finally:
                answer.close()

    def register(
        self,
        portrait: str | Path,
        *,
        face: str = "auto",
        paste_back: bool = False,
        consent: str | None = None,
    ) -> str:
        """The digest of a portrait, which the service keeps."""
        fields = {"face": face, "paste_back": str(paste_back).lower()}
        if consent is not None:
            fields["consent"] = consent
        with ExitStack() as held:
            files = _inputs(fields, {"portrait": portrait}, held)
            answer = self._ask("POST", "/v1/identities", data=fields, files=files)
        return str(_json(answer)["digest"])

    def models(self) -> list[ServedModel]:
        """What can be asked for, the default first."""
        return [ServedModel(**entry) for entry in _json(self._ask("GET", "/v1/models"))]

    def switch(self, uri: str, sha256: str | None = None) -> ServedModel:
        """Serves another bundle from now on; returns when it does. Needs a token with the scope admin."""
        wanted = {"uri": uri, "sha256": sha256}
        return ServedModel(**_json(self._ask("POST", "/v1/models", json=wanted, timeout=None)))

    def _ask(self, method: str, path: str, patience_s: float | None = None, **content: Any) -> httpx.Response:
        """An answer with a good status, its body unread; a busy service is asked again while patience lasts."""
        until = time.monotonic() + (self._patience_s if patience_s is None else patience_s)
        while True:
            try:
                request = self._http.build_request(method, path, **content)
                answer = self._http.send(request, stream=True)
                if answer.is_success:
                    return answer
                answer.read()
            except httpx.TransportError as error:
                raise Unavailable(
                    f"{self.server} does not answer ({str(error) or type(error).__name__})",
                    fix="is it running? ifmdm serve starts one",
                ) from error
            problem = _problem(answer)
            wait = getattr(problem, "retry_after", None)
            if wait is None or time.monotonic() + wait > until:
                raise problem
            time.sleep(wait)
            for _, (_, file) in (content.get("files") or {}).items():
                file.seek(0)


def _inputs(fields: dict[str, str], given: dict[str, str | Path], held: ExitStack) -> dict[str, Any]:
    """Puts URIs and digests into `fields`; the others are opened to be sent."""
    files: dict[str, Any] = {}
    for name, value in given.items():
        text = str(value)
        if text.startswith(("s3://", "file://")):
            fields[f"{name}_uri"] = text
        elif name == "portrait" and len(text) == 64 and set(text) <= set("0123456789abcdef"):
            fields["identity"] = text
        else:
            path = input_file(text, "picture" if name == "portrait" else "audio")
            files[name] = (path.name, held.enter_context(path.open("rb")))
    return files


def _json(answer: httpx.Response) -> Any:
    with ExitStack() as held:
        held.callback(answer.close)
        answer.read()
        return answer.json()


def _problem(answer: httpx.Response) -> IfmdmError:
    try:
        said = answer.json()
        what, fix = str(said["error"]), str(said["fix"])
        if answer.status_code >= 500:
            fix = f"{fix} ({said['request_id']})"
    except (ValueError, KeyError, TypeError):
        what, fix = f"{answer.url} answers {answer.status_code}", "is this a service of ifmdm?"
    kind = _CLASSES.get(answer.status_code, BadInput if answer.status_code < 500 else IfmdmError)
    error = kind(what, fix=fix)
    error.http_status = answer.status_code
    if isinstance(error, Busy):
        error.retry_after = float(answer.headers.get("retry-after", 1))
    return error
