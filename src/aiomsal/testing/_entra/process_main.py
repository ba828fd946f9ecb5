"""What runs in the process of a FakeEntraProcess: a server, and a loop that does what the parent asks."""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import signal
import sys
import threading
import time
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from .brain import FakeEntra

if TYPE_CHECKING:
    from collections.abc import Callable

    from .gate import Gate
    from .server import EntraServer
    from .steps import AuthorizationAnswer

T = TypeVar("T")


class Control:
    """Does what the parent asks, one thing after another.

    Its mutable state is the gates it has made and the people who sign in, by number. People do so in threads, for they
    may have to wait at a gate that the parent has yet to open.
    """

    def __init__(self, entra: FakeEntra, server: EntraServer) -> None:
        self._entra, self._server = entra, server
        self._gates: dict[int, Gate] = {}
        self._people: dict[int, Future[AuthorizationAnswer]] = {}
        self._numbers = itertools.count()

    def perform(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        if name == "where":
            return self._server.url, self._server.ca_file, self._entra.tenant_id
        if name == "hold":
            number = next(self._numbers)
            self._gates[number] = self._entra.hold(*args, **kwargs)
            return number
        if name == "gate":
            return self._gate(*args)
        if name == "authorize":
            number = next(self._numbers)
            self._people[number] = in_a_thread(lambda: self._entra.authorize(*args, **kwargs))
            return number
        if name == "authorized":
            return self._authorized(*args)
        attribute = getattr(self._entra, name)
        return attribute(*args, **kwargs) if callable(attribute) else attribute

    def _authorized(self, number: int, timeout: float) -> list[AuthorizationAnswer]:
        """Return the answer in a list, which is empty if there is none within that time."""
        person = self._people[number]
        if not wait([person], timeout).done:
            return []
        return [self._people.pop(number).result()]

    def _gate(self, number: int, name: str, *args: Any) -> object:
        gate = self._gates[number]
        if name == "waiting":
            return gate.waiting
        if name == "release":
            return gate.release(*args)
        if name == "close":
            gate.__exit__(None, None, None)
            return None
        try:
            gate.wait_for(*args)
        except TimeoutError:
            return False
        return True


def in_a_thread(function: Callable[[], T]) -> Future[T]:
    """Call a function in a thread of its own, which nobody waits for at the end."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except Exception as error:  # noqa: BLE001  it is the parent's to handle
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def raise_file_limit() -> None:
    """Raise the limit of open files as far as this process may: each connection is one."""
    try:
        import resource
    except ImportError:
        return
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def end_with_parent(server: EntraServer) -> None:
    """End when the parent has, even if a child it forked keeps the other end of our pipe open."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.5)
    server.stop()
    os._exit(0)


def obey(control: Control, questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the parent closes the pipe."""
    while True:
        answer: tuple[bool, object]
        try:
            name, args, kwargs = pickle.load(questions)  # noqa: S301  written by our own parent
        except EOFError:
            return
        except Exception as error:  # noqa: BLE001  what the parent sent names something that is not here
            answer = False, RuntimeError(f"the argument does not exist in the process of the server: {error}")
        else:
            try:
                answer = True, control.perform(name, args, kwargs)
            except Exception as error:  # noqa: BLE001  it is the parent's to handle
                answer = False, error
        pickle.dump(answer, answers)
        answers.flush()


def main() -> None:
    """Serve, and do what is asked on standard input, until that ends."""
    # A terminal sends Ctrl-C to this process too. It is meant for the parent, who may need us to end in good order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever is printed here must not mix with the answers
    raise_file_limit()
    entra = FakeEntra()
    _ = entra._state.key  # made now, so that the first request does not wait for it
    with entra.serve() as server:
        threading.Thread(target=end_with_parent, args=(server,), daemon=True).start()
        obey(Control(entra, server), cast("BinaryIO", sys.stdin.buffer), answers)


if __name__ == "__main__":
    main()
