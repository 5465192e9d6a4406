"""The settings of a run's loop, apart from what they are settings of: a light import."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class LoopConfig:
    """What the loop does beside training steps.

    Attributes:
        evaluate_every: Steps between evaluations on held-out data.
        checkpoint_every: Steps between checkpoints.
        log_every: Steps between logged metrics.
        patience: Evaluations without a better one after which training stops; None never stops it.
        minimum_gain: By how much an evaluation must be better to count as better for that.
        stop_after_skipped: Steps in a row, skipped because something was not finite, that end the
            run; None never does.
        batches_ahead: Batches made beforehand.
        keep_last: Checkpoints kept besides the best one.

    Raises:
        ValueError: A number is out of range.
    """

    evaluate_every: int = 200
    checkpoint_every: int = 200
    log_every: int = 50
    patience: int | None = None
    minimum_gain: float = 0.0
    stop_after_skipped: int | None = 20
    batches_ahead: int = 2
    keep_last: int = 2

    def __post_init__(self) -> None:
        for name, least in (
            ("evaluate_every", 1),
            ("checkpoint_every", 1),
            ("log_every", 1),
            ("patience", 1),
            ("stop_after_skipped", 1),
            ("batches_ahead", 0),
            ("keep_last", 1),
        ):
            number = getattr(self, name)
            may_be_none = name in ("patience", "stop_after_skipped")
            if number is None and may_be_none:
                continue
            if not isinstance(number, int) or isinstance(number, bool) or number < least:
                raise ValueError(f"{name}: got {number!r}, expected an integer of at least {least}")
        if not 0 <= self.minimum_gain < math.inf:
            raise ValueError(f"minimum_gain: got {self.minimum_gain}, expected at least 0, finite")
