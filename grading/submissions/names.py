"""Names of files of unknown origin: their encoding, how to show them, and safe ones of ours."""

import re
import unicodedata

# What zips name files in that don't say so: the script, or from where to where a code page has its
# common characters, and the lowest second byte of those.
CODE_PAGES: dict[str, str | tuple[int, int, int]] = {
    "cp1251": "CYRILLIC", "cp866": "CYRILLIC", "cp1253": "GREEK", "cp737": "GREEK",
    "cp1256": "ARABIC", "cp720": "ARABIC", "cp850": "LATIN", "cp1252": "LATIN",
    "cp949": (0xB0A1, 0xC8FE, 0xA1), "cp932": (0x829F, 0x9872, 0x40),
    "gbk": (0xB0A1, 0xD7F9, 0xA1), "big5": (0xA440, 0xC67E, 0x40),
}  # fmt: skip
PLATFORM = re.compile(  # whose it is, in names of Moodle, Canvas, and Blackboard or Brightspace
    r"(?P<moodle>.+)_assignsubmission_|(?P<canvas>[^_]+)_(?P<late>LATE_)?(?P<id>\d{3,})_\d{4,}_.|"
    r"(?P<attempt>.+_attempt_\d{4}(?:-\d\d){5}(?=[_.])|\d+-\d+ - .+? - [^-]+(?= - ))"
)


def decoded(names: list[bytes]) -> list[str]:
    """Return names that don't say their encoding, all read in the one most plausible for all."""
    parts = {part for name in names for part in name.split(b"/") if not part.isascii()}
    parts = {part for part in parts if len(part) <= 255}  # longer ones are refused anyway
    sample = b"\n".join(sorted(parts)[:1000])
    try:
        sample.decode(best := "utf-8")  # macOS
    except UnicodeDecodeError:
        plausible = {page: _plausibility(sample, page) for page in CODE_PAGES}
        best = max(plausible, key=plausible.get)
        best = best if plausible[best] > 0.4 else "cp437"
    return [name.decode(best, "replace") for name in names]


def _plausibility(sample: bytes, page: str) -> float:
    """Return the share of characters that are common, or in words of one script and case."""
    try:
        text, common = sample.decode(page), CODE_PAGES[page]
    except UnicodeDecodeError:
        return 0
    good = 0.0
    if isinstance(common, str):
        for word in re.findall(r"[^\W\d_]+", text):
            same_case = word[1:] in (word[1:].lower(), word[1:].upper())
            if same_case and all(unicodedata.name(c, "").startswith(common) for c in word):
                good += sum(not c.isascii() for c in word)
    else:
        first, last, second = common
        for code in (int.from_bytes(c.encode(page), "big") for c in text if not c.isascii()):
            good += 1 if first <= code <= last and code % 256 >= second else 0.2
    return good / sum(not c.isascii() for c in text)


def shown(text: str, longest: int = 100) -> str:
    """Return a name or message from a submission, as one of ours can show it."""
    text = "".join(c if c.isprintable() else "?" for c in text[: longest + 1])
    return text if len(text) <= longest else f"{text[:longest]}..."


def safe_name(text: str) -> str:
    """Return a file's name made from any text: readable, in its own script, harmless anywhere."""
    text = unicodedata.normalize("NFC", text)
    kept = (c if c in "._-" or unicodedata.category(c)[0] in "LMN" else "-" for c in text)
    text = re.sub("-{2,}", "-", "".join(kept)).strip("-._").encode()[:100].decode(errors="ignore")
    if re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", text):  # Windows' devices
        text = f"student-{text}"
    return text.rstrip("-._") or "unnamed"


def owner(name: str) -> str:
    """Return what tells students apart in a name that a platform gave, else ""."""
    if not (match := PLATFORM.match(name)):
        return ""
    return match["moodle"] or match["attempt"] or f"{match['canvas']}_{match['id']}"
