"""Lets griffe read ``name : what it is`` in our docstrings as a description and not as a type."""

import re

import griffe

HEADING = re.compile(r"^(\w+)\n-+\n", re.MULTILINE)
ENTRY = re.compile(r"^([\w*]+(?:, [\w*]+)*) ?: ", re.MULTILINE)
SOURCE = re.compile(r"^(?=Source: )", re.MULTILINE)
EXAMPLE = re.compile(r"^\n(?=>>> )", re.MULTILINE)
ROLE = re.compile(r":\w+:(`[^`]+`)")


class Prose(griffe.Extension):
    """Puts the description of a parameter or attribute on a line of its own."""

    def on_object(self, *, obj: griffe.Object, **options: object) -> None:
        """Rewrite one docstring before it is parsed."""
        if obj.docstring is None:
            return
        before, *sections = HEADING.split(ROLE.sub(r"\1", obj.docstring.value))
        text = [before]
        for name, content in zip(sections[::2], sections[1::2], strict=True):
            if name in ("Parameters", "Attributes"):
                entries, *source = SOURCE.split(content, maxsplit=1)
                content = ENTRY.sub(r"\1\n    ", entries)
                content += "".join(f"Notes\n-----\n{text}" for text in source)
            if name != "Examples":
                content = EXAMPLE.sub("\nExamples\n--------\n", content, count=1)
            text.append(f"{name}\n{'-' * len(name)}\n{content}")
        obj.docstring.value = "".join(text)
