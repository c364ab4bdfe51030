"""What is said of wrong input: one line that names field, value and what is allowed, and the nearest known name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one; empty where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def in_one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """Everything that is wrong with the data of a model."""
    complaints = "; ".join(_describe(item, model) for item in error.errors())
    return " ".join(complaints.splitlines())  # names may be anything too


def _describe(item: Any, model: type[BaseModel]) -> str:
    place = item["loc"]
    field = ".".join(str(part) for part in place) or "config"
    if item["type"] == "missing":
        return f"{field}: is missing"
    if item["type"] == "union_tag_not_found":
        return f"{field}.name: is missing"
    if not place and item["type"] == "value_error":  # from the model itself: names the fields it is about
        return str(item["ctx"]["error"])
    message = f"{field} = {_shown(item['input'])}: {item['msg'][0].lower()}{item['msg'][1:]}"
    if item["type"] == "extra_forbidden":
        return message + nearest(str(place[-1]), _fields_beside(place, model))
    if item["type"] in ("literal_error", "union_tag_invalid"):
        context = item["ctx"]
        allowed = re.findall(r"'([^']+)'", context.get("expected") or context["expected_tags"])
        return message + nearest(str(context.get("tag", item["input"])), allowed)
    return message


def _shown(value: Any) -> str:
    """A value, on one line and short."""
    try:
        text = repr(value)
    except ValueError:  # a whole number with more digits than Python prints
        return "a number too long to print"
    return text if len(text) <= 200 else f"{text[:197]}..."


def _fields_beside(place: tuple[Any, ...], model: type[BaseModel]) -> Iterator[str]:
    """Names of fields in the model at ``place``; of all that may stand there, where pydantic does not say which did."""
    here = [model]
    for part in place[:-1]:
        if any(part in each.model_fields for each in here):
            fields = [each.model_fields[part] for each in here if part in each.model_fields]
            here = [found for field in fields for found in _models_in(field.annotation)]
        else:  # the tag of a union, or a place in a list
            tagged = [each for each in here if part in get_args(_annotation(each, "name"))]
            here = tagged or here
    return (name for each in here for name in each.model_fields)


def _annotation(model: type[BaseModel], field: str) -> Any:
    return model.model_fields[field].annotation if field in model.model_fields else None


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
