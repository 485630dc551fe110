"""Which files of the run folder the dashboard may hand out: known kinds inside the folder, once every link is followed."""

from pathlib import Path

KINDS = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".html": "text/html; charset=utf-8",
    ".json": "application/json", ".jsonl": "text/plain; charset=utf-8", ".csv": "text/plain; charset=utf-8",
    ".tsv": "text/plain; charset=utf-8", ".star": "text/plain; charset=utf-8", ".txt": "text/plain; charset=utf-8",
    ".log": "text/plain; charset=utf-8", ".yaml": "text/plain; charset=utf-8",
}  # fmt: skip
LARGEST_FILE = 64 * 2**20


class RequestError(Exception):
    """A request that is not answered; `status` is the HTTP status, the text one sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(status, sentence)
        self.status, self._sentence = status, sentence

    def __str__(self) -> str:
        return self._sentence


def inside(relative: str) -> Path:
    """The file or folder of that path in the run folder; RequestError (404) when there is none or any link leads out of the run folder."""
    parts = relative.split("/")
    if not relative or "\0" in relative or "\\" in relative or any(part == "" or part.startswith(".") for part in parts):
        raise RequestError(404, "There is no such file in the run folder.")
    try:
        place = Path(relative).resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise RequestError(404, "There is no such file in the run folder.") from error
    if not place.is_relative_to(Path.cwd().resolve()):
        raise RequestError(404, "That path leads out of the run folder.")
    return place


def is_inside(relative: str) -> bool:
    """Whether a path leads to something in the run folder."""
    try:
        return bool(inside(relative))
    except RequestError:
        return False


def read_file(relative: str) -> tuple[bytes, str]:
    """Content and content type of a file of a kind that may be handed out."""
    place = inside(relative)
    kind = KINDS.get(place.suffix.lower())
    if kind is None or not place.is_file():
        raise RequestError(404, "Files of that kind are not handed out.")
    if place.stat().st_size > LARGEST_FILE:
        raise RequestError(413, f"The file is larger than {LARGEST_FILE // 2**20} MB; open it on the disk.")
    return place.read_bytes(), kind
