"""Where alerts go: the program's own log, and a webhook."""

import logging

import httpx

from apprentice.remote.secrets import TELLING_LENGTH, Secret, detached

logger = logging.getLogger(__name__)


class LogSink:
    """Alerts as log lines, with their parts in ``extra``. Implements :class:`apprentice_actors.ports.AlertSink`."""

    async def raised(self, task: str | None, alert: str, severity: str, message: str) -> None:
        """Warnings as warnings, critical ones as errors."""
        level = logging.ERROR if severity == "critical" else logging.WARNING
        logger.log(level, "%s: %s", alert, message, extra={"alert": alert, "task": task, "severity": severity})

    async def cleared(self, task: str | None, alert: str) -> None:
        """The end of it, as information."""
        logger.info("%s: over", alert, extra={"alert": alert, "task": task})


class WebhookSink:
    """Alerts posted as JSON. Implements :class:`apprentice_actors.ports.AlertSink`; the herald notes failures."""

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        """``url`` is treated as a secret: for many services, who knows it may post."""
        self._url, self._login = detached(url)
        self._timeout_s = timeout_s
        address = httpx.URL(self._url)
        self._host = address.host
        path = address.raw_path.decode()
        telling = (path, *(self._login or ()))
        self._secrets = [Secret(part, "alerts.webhook") for part in telling if len(part) >= TELLING_LENGTH]

    async def raised(self, task: str | None, alert: str, severity: str, message: str) -> None:
        """``{"state": "raised", task, alert, severity, message}``. Raises ``httpx.HTTPError``."""
        body = {"state": "raised", "task": task, "alert": alert, "severity": severity, "message": message}
        await self._post(body)

    async def cleared(self, task: str | None, alert: str) -> None:
        """``{"state": "cleared", task, alert}``. Raises ``httpx.HTTPError``."""
        await self._post({"state": "cleared", "task": task, "alert": alert})

    async def _post(self, body: dict[str, str | None]) -> None:
        auth = httpx.BasicAuth(*self._login) if self._login is not None else None
        try:
            async with httpx.AsyncClient(timeout=self._timeout_s, auth=auth) as client:
                status = (await client.post(self._url, json=body)).status_code
        except httpx.HTTPError as error:  # its own words, and its request, hold the address
            raise httpx.HTTPError(f"the webhook at {self._host} failed with {type(error).__name__}") from None
        if not 200 <= status < 300:
            raise httpx.HTTPError(f"the webhook at {self._host} answered with status {status}; check alerts.webhook")
