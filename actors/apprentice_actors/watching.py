"""Keeping an eye on the teachers: once a day their providers' model lists are asked what is to become of them."""

import logging
from collections.abc import Callable, Sequence
from typing import NoReturn

from . import commands as c
from .ports import Clock, ModelNotices, NoticeUnknown

logger = logging.getLogger(__name__)

DAY_S = 86_400.0


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
