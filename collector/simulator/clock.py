"""The simulator's own time of day: real, shifted, fast, or standing still until told to move."""

from __future__ import annotations

from collector.clock import Clock, SystemClock


class SimulatorClock:
    """Seconds since the epoch, as the simulated service counts them.

    It starts at `start` (the machine's time when None) and runs `rate` seconds a second: 1 is real
    time, 60 makes an hour a minute, 0 stands still until `advance` or `set`.
    """

    def __init__(self, start: float | None = None, *, rate: float = 1.0, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._rate = rate
        self._base = self._clock.wall() if start is None else start
        self._base_monotonic = self._clock.monotonic()

    @classmethod
    def frozen(cls, at: float) -> SimulatorClock:
        """A clock that stands at `at` until it is moved."""
        return cls(at, rate=0.0)

    @property
    def rate(self) -> float:
        return self._rate

    def now(self) -> float:
        return self._base + (self._clock.monotonic() - self._base_monotonic) * self._rate

    def set(self, time: float, *, rate: float | None = None) -> None:
        """Step to `time`, and run at `rate` from there on when one is given."""
        self._base = time
        self._base_monotonic = self._clock.monotonic()
        if rate is not None:
            if rate < 0:
                raise ValueError(f"a clock cannot run backwards, got rate {rate}")
            self._rate = rate

    def advance(self, seconds: float) -> None:
        """Step forward by `seconds`."""
        self.set(self.now() + seconds)

    def __call__(self) -> float:
        return self.now()
