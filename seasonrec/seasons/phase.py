"""Time stamps as the shop's local time and as the fraction of the year that has gone by."""

from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from seasonrec.errors import DataError
from seasonrec.schema import DAY

N_WEEKS = 52
HALF_WINDOW = 2  # weeks on either side that a week of the year is told by, as in the benchmark's in-season label
# What clocks can show, less two days for their offsets: the years 1 to 9999. Seconds that were given in milliseconds lie far outside.
EARLIEST, LATEST = (int(each.replace(tzinfo=UTC).timestamp()) for each in (datetime(1, 1, 3), datetime(9999, 12, 29)))


@lru_cache
def zone(timezone: str) -> ZoneInfo:
    """The time zone of an IANA name.

    Raises:
        DataError: a name that the time zone database lacks.
    """
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: names such as "Europe" that are folders of the database
        raise DataError(f"timezone {timezone!r} is not in the IANA database; give a name such as 'Europe/London' or 'UTC'") from error


def local_time(time: ArrayLike, timezone: str = "UTC") -> NDArray[np.datetime64]:
    """What a clock in the zone shows at each time, datetime64[s] [n].

    Args:
        time: int64 seconds UTC [n].
        timezone: IANA name.

    Raises:
        DataError: times that are not integers or lie outside the years 1..9999, or an unknown zone.
    """
    time = np.asarray(time)
    if not np.issubdtype(time.dtype, np.integer):
        raise DataError(f"times are {time.dtype}, wanted int64 seconds UTC; convert with .astype('datetime64[s]').astype('int64')")
    time = time.astype(np.int64)
    clock = zone(timezone)
    if time.size and not EARLIEST <= time.min() <= time.max() <= LATEST:
        raise DataError(f"times span {time.min()}..{time.max()} seconds since 1970, wanted the years 1..9999; divide milliseconds by 1,000")
    if timezone == "UTC" or not time.size:
        return time.astype("datetime64[s]")
    return (time + _offsets(time.ravel(), clock).reshape(time.shape)).astype("datetime64[s]")


def _offsets(time: NDArray[np.int64], clock: ZoneInfo) -> NDArray[np.int64]:
    """Seconds that the clock is ahead of UTC at each time, [n]. Days on which it does not change are looked up once."""
    days, row = np.unique(time // DAY, return_inverse=True)
    first, last = _looked_up(days * DAY, clock), _looked_up(days * DAY + (DAY - 1), clock)
    offsets, changing = first[row], (first != last)[row]
    # Not every change is on a full hour: Newfoundland's came at a minute past midnight until 2011.
    distinct, row = np.unique(time[changing], return_inverse=True)
    offsets[changing] = _looked_up(distinct, clock)[row]
    return offsets


def _looked_up(time: NDArray[np.int64], clock: ZoneInfo) -> NDArray[np.int64]:
    local = (datetime.fromtimestamp(each, UTC).astimezone(clock).utcoffset() for each in time.tolist())
    return np.array([0 if offset is None else int(offset.total_seconds()) for offset in local], np.int64)


def of_year(time: ArrayLike, timezone: str = "UTC") -> NDArray[np.float64]:
    """The phase of each time: the fraction of its local calendar year that has gone by, in [0, 1), [n].

    Leap years are a day longer, so 1 March has nearly, not exactly, the same phase each year.

    Args:
        time: int64 seconds UTC [n].
        timezone: IANA name of the shop's clock.

    Warning:
        Keep phases in float64 until `harmonics`: in float32 the last second of a year rounds to 1.

    Raises:
        DataError: as `local_time`.
    """
    local = local_time(time, timezone)
    year = local.astype("datetime64[Y]")
    start, end = year.astype("datetime64[s]"), (year + 1).astype("datetime64[s]")
    return (local - start) / (end - start)


def harmonics(phase: ArrayLike, n: int) -> NDArray[np.float32]:
    """Sines, then cosines, of the first n multiples of the yearly angle, [n_times, 2n].

    A weighted sum of them is any smooth yearly curve, with no jump at New Year; the k-th can follow humps of about 26/k weeks.

    Args:
        phase: fraction of the year in [0, 1), [n_times].
        n: how many harmonics, at least 1.

    Raises:
        DataError: a phase outside [0, 1), or n below 1.
    """
    phase = np.asarray(phase, np.float64)
    if n < 1:
        raise DataError(f"harmonics: asked for {n}, wanted at least 1")
    outside = ~((phase >= 0) & (phase < 1))  # true for NaN as well
    if outside.any():
        at = int(np.flatnonzero(outside)[0])
        raise DataError(
            f"phase must lie in [0, 1), got {phase.flat[at]:g} at event {at}; seasons.phase.of_year turns timestamps into phases"
        )
    angle = 2 * np.pi * phase[..., None] * np.arange(1, n + 1)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1).astype(np.float32)


def week_of_year(time: ArrayLike, timezone: str = "UTC") -> NDArray[np.int64]:
    """The week of the year of each time, counted from 1 January, 0..51, [n].

    Day 365 (and 366) would be a 53rd week of one or two days; it joins week 51.

    Args:
        time: int64 seconds UTC [n].
        timezone: IANA name; the benchmark's labels use UTC.

    Raises:
        DataError: as `local_time`.
    """
    day = local_time(time, timezone).astype("datetime64[D]")
    day_of_year = (day - day.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64)
    return np.minimum(day_of_year // 7, N_WEEKS - 1)


def window(values: NDArray, half_window: int = HALF_WINDOW, dtype: DTypeLike | None = None) -> NDArray:
    """The sum over the weeks around each week of the year, [n, 52]; December's neighbours are January's.

    Args:
        values: of each week [n, 52].
        half_window: weeks on either side.
        dtype: of the sums; None: that of the values.
    """
    total = np.array(values, dtype)
    for shift in range(1, half_window + 1):
        total += np.roll(values, shift, axis=1)
        total += np.roll(values, -shift, axis=1)
    return total
