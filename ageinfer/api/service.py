"""The service: listens, answers, and stops without cutting a request."""

from ageinfer.api.limits import Limits
from ageinfer.pipeline import Pipeline
from ageinfer.web.listening import listen, missing_extra


class Service:
    """Answers pictures over HTTP until it is closed.

    Args:
        pipeline: finds faces and ages; networks of one thread each answer most pictures a second. The service counts
            the batches of its age network (`Network.on_run`), so two services should not share one.
        host: the name or address to listen on. An address that other machines can reach needs a token.
        port: the port to listen on, 0 to 65535; 0 takes any free port.
        token: that whoever asks must show, see `ageinfer.web.make_token`; None: none, for this machine only.
        limits: of requests.

    Attributes:
        url: the address of its page, with the token in it.
        threads: that work on pictures.

    Raises:
        UsageError: other machines can reach the host and there is no token, or a value is out of range.
        OutputError: the port is taken, or the system does not allow it.
        MissingDependencyError: a package of the extra ``serve`` is not installed.

    Example:
        >>> with Service(pipeline) as service:  # doctest: +SKIP
        ...     print(service.url)
    """

    def __init__(
        self, pipeline: Pipeline, host: str = "127.0.0.1", port: int = 8000, *, token: str | None = None,
        limits: Limits | None = None,
    ) -> None:  # fmt: skip
        try:
            from ageinfer.api.server import ApiServer
        except ModuleNotFoundError as error:
            raise missing_extra("the HTTP service", error) from error
        listening = listen(host, port, token)
        self.url = listening.url
        self._server = ApiServer(listening, pipeline, limits or Limits())
        self.threads = self._server.threads

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def runs(self) -> bool:
        """Whether it has neither ended nor failed."""
        return self._server.runs

    def responds(self, within_s: float) -> bool:
        """Whether it has done anything within so many seconds; for a watchdog, which asks again and again."""
        return self._server.responds(within_s)

    @property
    def pictures(self) -> int:
        """Pictures that were answered so far."""
        return self._server.pictures

    def close(self) -> None:
        """Refuses new requests, answers those that were begun before, and ends."""
        self._server.close()
