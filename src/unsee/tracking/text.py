"""Names and values as MLflow takes them, and without the secrets that they may hold."""

import json
import re
from collections.abc import Mapping

LONGEST_PARAMETER = 6000
SECRET_NAME = re.compile(r"password|passwd|secret|credential|api_?key|access_?key|(^|[._])token$", re.IGNORECASE)
SECRET_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Parameters as MLflow takes them: dotted names, text values of bounded length, secrets as stars."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[allowed_name(name)] = "***" if SECRET_NAME.search(name) else _parameter_text(value)
    return flat


def allowed_name(name: str) -> str:
    """A parameter's or metric's name as MLflow takes it."""
    return re.sub(r"[^\w\-./: ]", "_", name)[:250]


def _parameter_text(value: object) -> str:
    text = redacted(value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False))
    if len(text) <= LONGEST_PARAMETER:
        return text
    ending = f"… ({len(text)} characters)"
    return text[: LONGEST_PARAMETER - len(ending)] + ending


def redacted(text: str) -> str:
    """Text without the user and password of any URL in it."""
    return SECRET_IN_URL.sub("***@", text)
