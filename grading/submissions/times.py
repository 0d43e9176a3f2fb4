"""When something was handed in, as far as its files can say."""

import tarfile
import zipfile
from datetime import datetime
from pathlib import Path

EARLIEST = 1981  # the year before which a time is that of no file: `make submission` writes 1980


def handed_in(source: Path, inside: str = "") -> str:
    """Return a time such as "2026-12-01T23:59:00 (newest file inside)".

    That of the newest file inside an archive (of a class's archive, in the place `inside`) or
    folder; of an archive whose files have no times, its own. Times are local, without a zone.
    """
    try:
        times, said = _times(Path(source), inside), "newest file inside"
    except (OSError, ValueError, zipfile.BadZipFile, tarfile.TarError, EOFError):
        times = []
    times = [time for time in times if time.year >= EARLIEST]
    if not times:
        times, said = [datetime.fromtimestamp(Path(source).stat().st_mtime)], "time of the archive"
    return f"{max(times).isoformat(timespec='seconds')} ({said})"


def _times(source: Path, inside: str) -> list[datetime]:
    if source.is_dir():
        files = [path for path in source.rglob("*") if path.is_file() and not path.is_symlink()]
        return [datetime.fromtimestamp(path.stat().st_mtime) for path in files]
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            infos = [(info.filename, info.date_time) for info in archive.infolist()]
        times = [(name.replace("\\", "/"), datetime(*time)) for name, time in infos if time[1]]
    else:
        with tarfile.open(source) as archive:
            times = [(each.name, datetime.fromtimestamp(each.mtime)) for each in archive]
    return [time for name, time in times if name.startswith(inside)]
