"""Where alerts go: the program's own log, and a webhook."""

import httpx
import structlog

logger = structlog.get_logger("apprentice.alerts")


class LogSink:
    """Alerts as structured log lines. Implements :class:`apprentice_actors.ports.AlertSink`."""

    async def raised(self, task: str | None, alert: str, severity: str, message: str) -> None:
        """Warnings as warnings, critical ones as errors."""
        level = logger.error if severity == "critical" else logger.warning
        level(message, alert=alert, task=task, severity=severity)

    async def cleared(self, task: str | None, alert: str) -> None:
        """The end of it, as information."""
        logger.info("alert over", alert=alert, task=task)


class WebhookSink:
    """Alerts posted as JSON. Implements :class:`apprentice_actors.ports.AlertSink`; the herald notes failures."""

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        self._url = url
        self._timeout_s = timeout_s

    async def raised(self, task: str | None, alert: str, severity: str, message: str) -> None:
        """``{"state": "raised", task, alert, severity, message}``. Raises ``httpx.HTTPError``."""
        body = {"state": "raised", "task": task, "alert": alert, "severity": severity, "message": message}
        await self._post(body)

    async def cleared(self, task: str | None, alert: str) -> None:
        """``{"state": "cleared", task, alert}``. Raises ``httpx.HTTPError``."""
        await self._post({"state": "cleared", "task": task, "alert": alert})

    async def _post(self, body: dict[str, str | None]) -> None:
        async with httpx.AsyncClient(timeout=self._timeout_s) as client:
            (await client.post(self._url, json=body)).raise_for_status()
