"""From the ``privacy`` sections of a configuration to redactors."""

from collections.abc import Mapping

from apprentice.config import Config
from apprentice.config.privacy import FLOOR, PrivacyConfig
from apprentice.privacy.patterns import PatternRecogniser
from apprentice.privacy.redactor import Redactor
from apprentice.privacy.spans import Recogniser


def redactors(config: Config) -> Mapping[str, Redactor]:
    """A redactor for every task that asks for one. Raises :class:`MissingExtra`, :class:`InvalidConfig`."""
    wanted = {task.name: task.privacy for task in config.tasks}
    return {name: make_redactor(privacy) for name, privacy in wanted.items() if privacy.redact != "off"}


def make_redactor(privacy: PrivacyConfig) -> Redactor:
    """The built-in expressions always look; presidio looks beside them where it is asked for."""
    floor = [name for name in privacy.entities or FLOOR if name in FLOOR]
    recognisers: list[Recogniser] = [PatternRecogniser(floor, privacy.patterns)]
    if privacy.redact == "presidio":
        from apprentice.privacy.presidio import PresidioRecogniser

        recognisers.append(PresidioRecogniser(privacy.entities, privacy.model))
    return Redactor(recognisers)
