"""What comes of reading JSON into a type, told in plain values."""

import json
from typing import Any

from microasgi import HTTPException
from microasgi.parsing import parse_json


def told(body: Any, model: Any) -> Any:
    """The value; or of a 422 the place and the sentence of each fault; or another status, and what is said."""
    try:
        return parse_json(body if isinstance(body, bytes) else json.dumps(body).encode(), model)
    except HTTPException as error:
        if error.status_code == 422:
            return [[fault["loc"], fault["msg"]] for fault in error.detail]
        return error.status_code, error.detail
