"""One request to the API, and what it means for a person and for an exit code when it does not succeed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx
import typer

from cli.tongda.place import NoPlace, Place, find_place
from cli.tongda.show import clean

OK, FAILED, USAGE, UNREACHABLE = 0, 1, 2, 3
"""Exit codes; 2 is also what typer ends with when it cannot read the command line."""
REQUEST_S: Final = 30.0
CONNECT_S: Final = 5.0
_HINTS = {
    401: "The key is not valid (any more): see `scripts/tongda doctor`, or set TONGDA_API_KEY to another one.",
    403: "Ask for a key with the role that this needs: docs/api-guide.md, or /docs of the API.",
    429: "Too many requests: try again later.",
    503: "The service cannot take it at the moment: try again, with the same --idempotency-key where there is one.",
}


class Refused(Exception):
    """The API answered with a problem; the text names each field and its rule."""

    def __init__(self, answer: httpx.Response) -> None:
        self.status = answer.status_code
        super().__init__("\n".join(_told(answer)))


class Unreachable(Exception):
    """No answer; the text says what to start or to set."""


class Api:
    """The public HTTP API with one key."""

    def __init__(self, place: Place) -> None:
        local = urlsplit(place.url).hostname in ("127.0.0.1", "localhost", "::1")
        self._http = httpx.Client(
            base_url=place.url,
            headers={"Authorization": f"Bearer {place.key}"},
            timeout=httpx.Timeout(REQUEST_S, connect=CONNECT_S),
            trust_env=not local,  # a company's proxy does not know this machine's own addresses
        )
        self._url = place.url

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> httpx.Response:
        """Parameters that are None are left out. Raises Refused, Unreachable."""
        return self._call("GET", path, params={n: v for n, v in params.items() if v is not None})

    def post(self, path: str, body: Any = None, *, once: str | None = None) -> httpx.Response:
        """`once` is the Idempotency-Key. Raises Refused, Unreachable."""
        headers = {"Idempotency-Key": once} if once is not None else {}
        return self._call("POST", path, headers=headers, **({} if body is None else {"json": body}))

    def patch(self, path: str, body: Any) -> httpx.Response:
        """Raises Refused, Unreachable."""
        return self._call("PATCH", path, json=body)

    def delete(self, path: str) -> httpx.Response:
        """Raises Refused, Unreachable."""
        return self._call("DELETE", path)

    def pieces(self, path: str) -> Iterator[str]:
        """A long answer as it comes; nothing of it is kept. Raises Refused, Unreachable."""
        try:
            with self._http.stream("GET", path) as answer:
                if not answer.is_success:
                    answer.read()
                    raise Refused(answer)
                yield from answer.iter_text()
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise Unreachable(f"{self._url} did not answer to the end: {type(error).__name__}") from None

    def _call(self, method: str, path: str, **rest: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **rest)
        except httpx.ConnectError:
            raise Unreachable(
                f"Nothing answers at {self._url}.\nStart the service with `scripts/tongda up` (its own API: "
                "`python -m api`), or set TONGDA_API_URL to where it runs. `scripts/tongda doctor` looks closer."
            ) from None
        except httpx.TimeoutException:
            raise Unreachable(f"{self._url} did not answer in time; it is open whether the request was taken.") from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise Unreachable(f"{self._url} cannot be talked to: {type(error).__name__}") from None
        if not answer.is_success:
            raise Refused(answer)
        return answer


@contextmanager
def open_api() -> Iterator[Api]:
    """The API of this environment. Raises typer.Exit with the right code, after the reason went to standard error."""
    try:
        api = Api(find_place(os.environ))
    except NoPlace as error:
        raise ended(str(error), code=UNREACHABLE) from None
    try:
        yield api
    except Refused as error:
        raise ended(str(error), code=FAILED) from None
    except Unreachable as error:
        raise ended(str(error), code=UNREACHABLE) from None
    finally:
        api.close()


def ended(message: str, *, code: int) -> typer.Exit:
    """Says it on standard error; raise what it returns."""
    print(message, file=sys.stderr)
    return typer.Exit(code)


def segment(value: object) -> str:
    """An id as one segment of a path."""
    return quote(str(value), safe="")


def _told(answer: httpx.Response) -> Iterator[str]:
    """A problem (RFC 9457) for people: what, then each place with its rule, then what to do."""
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, Mapping) or "title" not in problem:
        yield f"{answer.status_code}: the answer is not one of Tongda's. Is {answer.url.host} the right address?"
        return
    errors = problem.get("errors") or ()
    said = problem["title"] if errors else problem.get("detail") or problem["title"]  # the detail repeats the first error
    yield clean(f"{answer.status_code} {problem.get('code', '')}: {said}")
    for error in errors:
        place = error.get("pointer") or error.get("parameter") or error.get("header") or "(body)"
        yield clean(f"  {place}: {error.get('code', '')}: {error.get('detail', '')}")
    if hint := _HINTS.get(answer.status_code):
        yield hint
