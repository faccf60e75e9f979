"""Recognisers of presidio, beside the built-in expressions. Nothing is downloaded: not a model, not a list.

Presidio's own way of starting fetches a spaCy model where none is installed, and its check of mail addresses fetches a
list of domains. Here the pipeline is one that the configuration names, or a blank one that only splits words; mail
addresses are left to the built-in expression.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from apprentice.config.privacy import FROM_MODEL
from apprentice.errors import InvalidConfig, MissingExtra
from apprentice.notation import nearest
from apprentice.privacy.spans import Span

SCORE_MIN = 0.3
"""Presidio's confidence under which a finding is taken for a chance likeness: a bare number scores at most 0.05."""
_OURS = {"PHONE_NUMBER": "PHONE", "IBAN_CODE": "IBAN", "EMAIL_ADDRESS": "EMAIL"}
_THEIRS = {ours: theirs for theirs, ours in _OURS.items()}
_ALWAYS = ("phone", "credit_card", "iban", "ip_address", "us_ssn")


class PresidioRecogniser:
    """The kinds named in ``entities``, as presidio finds them. One language, that of the pipeline."""

    def __init__(self, entities: Sequence[str] = (), model: str | None = None) -> None:
        """``entities`` empty: those that score well without context, and names where ``model`` can tell them.

        Raises :class:`MissingExtra`, or :class:`InvalidConfig` for an unknown kind or a pipeline that is not there.
        """
        if importlib.util.find_spec("presidio_analyzer") is None:
            raise MissingExtra("privacy.redact: presidio needs an extra; install it: pip install 'apprentice[privacy]'")
        pipeline = _pipeline(model)
        self._language: str = pipeline.lang
        self._analyzer = _analyzer(pipeline)
        wanted = tuple(entities) or (*_ALWAYS, *(FROM_MODEL if model is not None else ()))
        names = [_THEIRS.get(name.upper(), name.upper()) for name in wanted if name != "email"]
        known = self._analyzer.get_supported_entities(self._language)
        unknown = [name for name in names if name not in known]
        if unknown and entities:
            ours = sorted(_OURS.get(name, name).lower() for name in known)
            raise InvalidConfig(
                [
                    f"privacy.entities: presidio does not find `{name.lower()}`{nearest(name.lower(), ours)}; "
                    f"it finds {', '.join(ours)}"
                    for name in unknown
                ]
            )
        self._entities = [name for name in names if name in known]

    def spans(self, text: str) -> Iterator[Span]:
        """See :class:`~apprentice.privacy.spans.Recogniser`. Takes milliseconds for a text of a few lines."""
        if not self._entities:
            return
        for one in self._analyzer.analyze(
            text, language=self._language, entities=self._entities, score_threshold=SCORE_MIN
        ):
            yield Span(one.start, one.end, _OURS.get(one.entity_type, one.entity_type))


def _pipeline(model: str | None) -> Any:
    import spacy

    if model is None:
        return spacy.blank("en")
    if not (Path(model).is_dir() or spacy.util.is_package(model)):
        raise InvalidConfig([f"privacy.model: there is no folder or installed package {model}; install the pipeline"])
    return spacy.load(model)


def _analyzer(pipeline: Any) -> Any:
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    engine: Any = SpacyNlpEngine(models=[{"lang_code": pipeline.lang, "model_name": pipeline.lang}])
    engine.nlp = {pipeline.lang: pipeline}
    registry = RecognizerRegistry(supported_languages=[pipeline.lang])
    registry.load_predefined_recognizers(languages=[pipeline.lang], nlp_engine=engine)
    registry.remove_recognizer("EmailRecognizer")  # its check fetches a list of domains from the network
    return AnalyzerEngine(nlp_engine=engine, registry=registry, supported_languages=[pipeline.lang])
