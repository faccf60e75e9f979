"""Personal data that can be told by their form alone. Check digits keep out most numbers that merely look alike.

Sources: RFC 5321 (lengths of mail addresses), ITU-T E.164 (at most 15 digits), ISO/IEC 7812-1 annex B (Luhn), ISO 13616
(IBAN, mod 97), RFC 4291 (IPv6), the US Social Security Administration's rules for numbers that are never given out.
Every expression is bounded, so that no input takes more than linear time.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from apprentice.privacy.spans import Span

_EMAIL = re.compile(
    r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}(?:xn--[a-z0-9-]{2,59}|[^\W\d_]{2,63})",
    re.IGNORECASE,
)
_PHONES = (
    re.compile(r"(?<![\w+])(?:\+|00)[ ]?[1-9](?:[ .\-/()]{0,3}\d){6,13}(?!\d)"),
    re.compile(r"(?<![\w+.])(?:1[ .\-])?(?:\([2-9]\d{2}\)|[2-9]\d{2})[ .\-]{1,2}\d{3}[ .\-]\d{4}(?!\d)"),
    re.compile(r"(?<![\w+.])(?:\(0[1-9]\d{0,4}\)|0[1-9]\d{0,4})[ /\-]{1,3}\d(?:[ \-/]?\d){4,9}(?!\d)"),
)
_DATE = re.compile(r"\d{1,2}([-/ ])\d{1,2}\1\d{2,4}")
_DIGITS = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,}")
_GROUP = re.compile(r"\d+")
_IBAN_START = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?=[ -]?[A-Za-z0-9])")
_IBAN = re.compile(r"[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}")
_IPV4 = re.compile(r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?!\w|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:.]{3,45}(?![\w])")
_SSN = re.compile(r"(?<![\w-])(?!000|666|9\d\d)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}(?!\w|-\d)")

_CARD = re.compile(r"4\d{12}(?:\d{3}){0,2}|5\d{15}|2[2-7]\d{14}|3[47]\d{13}|3[05689]\d{12,14}|6\d{15,18}", re.ASCII)
"""First digits and lengths of the numbers that the large card schemes issue."""
_CARD_DIGITS_MAX = 19
_IBAN_LENGTH_MIN = 15


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of those before it."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def iban_holds(text: str) -> bool:
    """Whether an IBAN without separators leaves 1 when divided by 97, its first four characters put last."""
    turned = text[4:] + text[:4]
    return int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


def _emails(text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _EMAIL.finditer(text))


def _phones(text: str) -> Iterator[tuple[int, int]]:
    for pattern in _PHONES:
        yield from (match.span() for match in pattern.finditer(text) if not _DATE.fullmatch(match.group()))


def _cards(text: str) -> Iterator[tuple[int, int]]:
    """Runs of digit groups: a card may stand beside other numbers, so every stretch of whole groups is tried."""
    for run in _DIGITS.finditer(text):
        groups = [match.span() for match in _GROUP.finditer(text, run.start(), run.end())]
        for first in range(len(groups)):
            digits = ""
            for start, end in groups[first : first + _CARD_DIGITS_MAX]:
                digits += text[start:end]
                if len(digits) > _CARD_DIGITS_MAX:
                    break
                if _CARD.fullmatch(digits) and luhn(digits):
                    yield groups[first][0], end


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    """The words after an IBAN look like its continuation; the longest stretch that holds is taken."""
    for begin in _IBAN_START.finditer(text):
        match = _IBAN.match(text, begin.start())
        if match is None:
            continue
        ends = [end for end in range(match.end(), match.start(), -1) if not text[end : end + 1].isalnum()]
        for end in ends:
            plain = re.sub("[ -]", "", text[match.start() : end])
            if len(plain) >= _IBAN_LENGTH_MIN and plain.isascii() and iban_holds(plain):
                yield match.start(), end
                break


def _addresses(text: str) -> Iterator[tuple[int, int]]:
    yield from (match.span() for match in _IPV4.finditer(text))
    for match in _IPV6.finditer(text):
        for candidate in (match.group(), match.group().rstrip("."), match.group().rstrip(".:")):
            if _is_ipv6(candidate):
                yield match.start(), match.start() + len(candidate)
                break


def _is_ipv6(text: str) -> bool:
    if text.count(":") < 2 or not any(character.isdigit() for character in text):
        return False
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _social_security(text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _SSN.finditer(text))


_FINDERS: Mapping[str, Callable[[str], Iterable[tuple[int, int]]]] = {
    "email": _emails,
    "phone": _phones,
    "credit_card": _cards,
    "iban": _ibans,
    "ip_address": _addresses,
    "us_ssn": _social_security,
}
BUILT_IN = tuple(_FINDERS)


class PatternRecogniser:
    """The built-in kinds named in ``entities``, and ``patterns`` of one's own (name to regular expression)."""

    def __init__(self, entities: Iterable[str] = BUILT_IN, patterns: Mapping[str, str] | None = None) -> None:
        self._finders = [(name.upper(), _FINDERS[name]) for name in entities]
        self._own = [(name.upper(), re.compile(pattern)) for name, pattern in (patterns or {}).items()]

    def spans(self, text: str) -> Iterator[Span]:
        """See :class:`~apprentice.privacy.spans.Recogniser`."""
        for entity, find in self._finders:
            for start, end in find(text):
                yield Span(start, end, entity)
        for entity, pattern in self._own:
            for match in pattern.finditer(text):
                yield Span(match.start(), match.end(), entity)
