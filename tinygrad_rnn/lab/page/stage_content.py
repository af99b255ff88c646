"""What a page says of a replayed loop: the step after each pass, down to its source."""

from __future__ import annotations

from typing import Any

from tinygrad_rnn.lab.page.rules import shown_path
from tinygrad_rnn.replay import Stages
from tinygrad_rnn.replay.program.stage import Row, Stage
from tinygrad_rnn.tape import code_at


def stage_content(stages: Stages, title: str) -> dict[str, Any]:
    """The stages as data; what other emitters write comes after what is run."""
    return {
        "title": title,
        "traced": _stage(stages.traced),
        "ways": [
            {"title": way.title, "stages": [_stage(s) for s in (*way.stages, *way.others)]}
            for way in stages.ways
        ],
        "origins": [_origin(origin.equation or origin.line) for origin in stages.origins],
    }


def _stage(stage: Stage) -> dict[str, Any]:
    return {
        "name": stage.name,
        "about": stage.about,
        "sections": [
            {"title": section.title, "rows": [_row(row) for row in section.rows]}
            for section in stage.sections
        ],
        "moves": [_row(row) for row in stage.moves],
        "notes": [*stage.notes],
    }


def _row(row: Row) -> dict[str, Any]:
    return {"text": row.text, "equations": [*row.equations], "why": row.why}


def _origin(place: str | None) -> dict[str, str]:
    if place is None:
        return {"place": "", "code": ""}
    file, _, number = place.rpartition(":")
    return {"place": f"{shown_path(file)}:{number}", "code": code_at(place)}
