"""What is said of many images as a table that grows as answers come, and goes on where it was stopped."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from earthgpt.files import named, whole_file
from earthgpt.tables import no_formula
from earthgpt.types import EarthGPTError


class AnswerTable:
    """A CSV file in UTF-8 with a line for each image: what was said, how sure that is, what was asked of which model,
    how the image was read, and why it could not be.

    answer: the name of the column of what is said. prompt, model, reading: the same for all lines. overwrite: whether a
    table that is there is begun anew. done: the images that it has an answer for; those that failed are to be asked
    again, and their lines are taken out. As a context manager it is open for ``add``.
    Raises EarthGPTError for a file that is none of these tables, and for one of another question, model or reading.
    """

    def __init__(self, path: Path, answer: str, prompt: str, model: str, reading: str, overwrite: bool = False):
        self.path, self._asked = path, [prompt, model, reading]
        self._header = ["image", answer, "score", "prompt", "model", "reading", "error"]
        self.done: set[str] = set()
        if path.exists() and path.stat().st_size and not overwrite:  # a full disk leaves an empty one
            self._go_on()

    def _go_on(self) -> None:
        path, header = self.path, self._header
        try:
            text = path.read_text(encoding="utf-8-sig")
            rows = list(csv.reader(io.StringIO(text, newline="")))
        except (UnicodeDecodeError, csv.Error) as error:
            raise EarthGPTError(
                f"{path} is there already and no CSV in UTF-8 ({error}); say --overwrite, or another name."
            ) from None
        if not rows or rows[0] != header:
            raise EarthGPTError(f"{path} is there already and has other columns; say --overwrite, or another name.")
        kept = [row for row in rows[1:] if len(row) == len(header) and not row[-1]]
        if others := [row for row in kept if row[3:6] != self._asked]:
            prompt, model, read = others[0][3:6]
            to = f" to {prompt!r}" if prompt else ""
            raise EarthGPTError(
                f"{path} is there already, with answers of {model}{to}, read with {read or 'no options'}; say "
                "--overwrite, or another name."
            )
        self.done = {row[0] for row in kept}
        if len(kept) < len(rows) - 1 or not text.endswith("\n"):
            with whole_file(path) as fresh, fresh.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([header, *kept])

    def __enter__(self) -> AnswerTable:
        with named(self.path):
            self._file = self.path.open("a" if self.done else "w", newline="", encoding="utf-8")
            self._lines = csv.writer(self._file)
            if not self.done:
                self._lines.writerow(self._header)
        return self

    def __exit__(self, *failure: object) -> None:
        with named(self.path):
            self._file.close()

    def add(self, image: str | Path, said: str, score: float | None, error: str) -> None:
        """One more line, which a killed process leaves; error: why nothing was said, empty where something was."""
        with named(self.path):
            sure = "" if score is None else f"{score:.4f}"
            self._lines.writerow([image, no_formula(said), sure, *self._asked, error])
            self._file.flush()
