#!/usr/bin/env python3
"""Writes zones.txt: what Python's zoneinfo says of the zone files beside it, and zoneinfo/ itself.

Each zone is kept in two forms, "fat" (transitions up to 2037) and "slim" (the footer does the work); both must
give the same answers. Run it only to renew them; the files are checked in. Needs zic and the system's zone files.

L utc year month day hour minute second weekday offset dst abbreviation     (the local time at a moment)
U year month day hour minute second utc skipped repeated                    (the moment of a local time)
"""

import calendar
import datetime as dt
import os
import random
import shutil
import subprocess
import zoneinfo

random.seed(8536)
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia",
         "America/Nuuk", "Europe/Dublin", "Asia/Kathmandu", "America/Santiago", "Antarctica/Troll"]
HERE = os.path.dirname(os.path.abspath(__file__))
UTC = dt.timezone.utc
EPOCH = dt.datetime(1970, 1, 1, tzinfo=UTC)


def compile_zones():
    for form in ("fat", "slim"):
        out = os.path.join(HERE, "zoneinfo", form)
        shutil.rmtree(out, ignore_errors=True)
        subprocess.run(["zic", "-b", form, "-d", out, "/usr/share/zoneinfo/tzdata.zi"], check=True)
        for folder, _, files in os.walk(out, topdown=False):
            for name in files:
                path = os.path.join(folder, name)
                if os.path.relpath(path, out) not in ZONES:
                    os.remove(path)
            if not os.listdir(folder):
                os.rmdir(folder)


def offset_at(tz, utc):
    return (EPOCH + dt.timedelta(seconds=utc)).astimezone(tz).utcoffset()


def transitions(tz, first, last):
    """By looking for changes, so that no reader of the format is trusted."""
    found, step = [], 6 * 3600
    for at in range(first, last, step):
        before, after = (EPOCH + dt.timedelta(seconds=t) for t in (at, at + step))
        a, b = before.astimezone(tz), after.astimezone(tz)
        if (a.utcoffset(), a.dst(), a.tzname()) == (b.utcoffset(), b.dst(), b.tzname()):
            continue
        low, high = at, at + step
        while high - low > 1:
            mid = (low + high) // 2
            m = (EPOCH + dt.timedelta(seconds=mid)).astimezone(tz)
            if (m.utcoffset(), m.dst(), m.tzname()) == (a.utcoffset(), a.dst(), a.tzname()):
                low = mid
            else:
                high = mid
        found.append(high)
    return found


def local_line(tz, utc):
    t = (EPOCH + dt.timedelta(seconds=utc)).astimezone(tz)
    return f"L {utc} {t.year} {t.month} {t.day} {t.hour} {t.minute} {t.second} {t.weekday()} " \
           f"{int(t.utcoffset().total_seconds())} {int(bool(t.dst()))} {t.tzname()}"


def moment_line(tz, naive, jumps):
    reading = calendar.timegm(naive.timetuple())
    exact = sorted({reading - int(naive.replace(tzinfo=tz, fold=fold).utcoffset().total_seconds()) for fold in (0, 1)})
    exact = [u for u in exact if u + int(offset_at(tz, u).total_seconds()) == reading]
    skipped = not exact
    if skipped:
        exact = [next(j for j in jumps if j + offset_at(tz, j).total_seconds() > reading
                      and j - 1 + offset_at(tz, j - 1).total_seconds() < reading)]
    return f"U {naive.year} {naive.month} {naive.day} {naive.hour} {naive.minute} {naive.second} {exact[0]} " \
           f"{int(skipped)} {int(len(exact) > 1)}"


compile_zones()
lines = []
for name in ZONES:
    with open(os.path.join(HERE, "zoneinfo", "fat", name), "rb") as f:
        tz = zoneinfo.ZoneInfo.from_file(f, key=name)
    lines.append(f"Z {name}")
    first, last = calendar.timegm((1955, 1, 1, 0, 0, 0)), calendar.timegm((2100, 1, 1, 0, 0, 0))
    jumps = transitions(tz, first, last)
    chosen = [j for j in jumps if dt.datetime(2007, 1, 1, tzinfo=UTC) <= EPOCH + dt.timedelta(seconds=j) <= dt.datetime(2013, 1, 1, tzinfo=UTC)
              or dt.datetime(2024, 1, 1, tzinfo=UTC) <= EPOCH + dt.timedelta(seconds=j) <= dt.datetime(2028, 1, 1, tzinfo=UTC)
              or dt.datetime(2035, 1, 1, tzinfo=UTC) <= EPOCH + dt.timedelta(seconds=j) <= dt.datetime(2039, 1, 1, tzinfo=UTC)]
    chosen = sorted(set(chosen) | set(random.sample(jumps, min(20, len(jumps)))))
    for j in chosen:
        for utc in (j - 1, j, j + 1, j + random.randrange(86400)):
            lines.append(local_line(tz, utc))
        base = EPOCH.replace(tzinfo=None) + dt.timedelta(seconds=j) + offset_at(tz, j - 1)
        for minutes in (-61, -60, -31, -30, -1, 0, 1, 29, 30, 59, 60, 61):
            lines.append(moment_line(tz, base + dt.timedelta(minutes=minutes), jumps))
    for _ in range(40):
        utc = random.randrange(first, last)
        lines.append(local_line(tz, utc))
        lines.append(moment_line(tz, (EPOCH + dt.timedelta(seconds=utc)).astimezone(tz).replace(tzinfo=None, microsecond=0), jumps))
with open(os.path.join(HERE, "zones.txt"), "w") as f:
    f.write("\n".join(lines) + "\n")
