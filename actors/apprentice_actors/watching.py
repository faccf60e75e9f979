"""Keeping an eye on what changes by itself: the teachers, once a day by their providers' model lists, and the time."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from . import commands as c
from .ports import Clock, ModelNotices, NoticeUnknown

logger = logging.getLogger(__name__)

DAY_S = 86_400.0
MINUTE_NS = 60 * 10**9


async def watch(
    teachers: Sequence[tuple[str, ModelNotices]], tell: Callable[[c.TeacherNoticed], None], clock: Clock
) -> NoReturn:
    """Ask now and every day after; ``tell`` what was found, also where it is nothing. To be cancelled.

    A list that cannot be read says nothing, and nobody waits for one: requests go on beside it.
    """
    while True:
        for name, notices in teachers:
            try:
                tell(c.TeacherNoticed(teacher=name, notice=await notices.notice()))
            except NoticeUnknown as error:
                logger.info("%s: %s", name, error)
            except Exception as error:  # a defect in one reader must not end the watch over the others
                logger.error("asking about %s failed: %s", name, type(error).__name__)  # its words may hold a key
        await clock.sleep(DAY_S)


async def remind(
    tasks: Mapping[str, Callable[[int], bool]], tell: Callable[[str, c.TimePassed], object], clock: Clock
) -> NoReturn:
    """At every full minute ``tell`` those tasks that time has brought something for. To be cancelled.

    ``tasks`` says by name whether something is due at a moment (UTC ns). Nothing is remembered here: a task that was
    too busy to listen is told again a minute later, and after a restart the first minute finds what was missed.
    """
    while True:
        await clock.sleep((MINUTE_NS - clock.now_ns() % MINUTE_NS) / 1e9)
        now_ns = clock.now_ns()
        for name, due in tasks.items():
            try:
                if due(now_ns):
                    tell(name, c.TimePassed())
            except Exception:  # a defect about one task must not end the watch over the others
                logger.exception("whether %s is due could not be worked out", name)
