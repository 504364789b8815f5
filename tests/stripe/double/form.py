"""application/x-www-form-urlencoded with brackets, as Stripe's v1 takes it, and the checks on the shape of parameters.

`payload[value]=25` becomes {"payload": {"value": "25"}}; brackets may be raw or percent-encoded. Decoding is strict
where a lax server would hide a client's mistake: bad escapes, bytes that are not UTF-8 and a parameter given twice
are refused."""

import re
from urllib.parse import unquote_to_bytes

from .errors import ParamError

TEXT_MAX = 100
DEPTH_MAX = 4
NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
INTEGER = re.compile(r"-?[0-9]{1,15}")


def _unescape(text):
    if BAD_ESCAPE.search(text):
        raise ParamError("Invalid request: a percent escape is malformed.")
    try:
        return unquote_to_bytes(text.replace("+", " ")).decode("utf-8")
    except UnicodeDecodeError:
        raise ParamError("Invalid request: the parameters are not UTF-8.") from None


def decode(text):
    """Nested dict of a form body or a query string. ParamError when it cannot be decoded without guessing."""
    params = {}
    for pair in text.split("&") if text else ():
        name, equals, value = pair.partition("=")
        match = NAME.fullmatch(_unescape(name))
        if not equals or not match:
            raise ParamError("Invalid request: the parameters are not form-encoded.")
        path = [match[1]] + re.findall(r"\[([^\[\]]*)\]", match[2])
        if len(path) > DEPTH_MAX:
            raise ParamError("Invalid request: the parameters are nested too deeply.")
        place = params
        for key in path[:-1]:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise ParamError("Invalid request: a parameter is both a value and a hash.", param=path[0])
        key = path[-1] if path[-1] or len(path) == 1 else str(len(place))
        if key in place:
            raise ParamError("Invalid request: a parameter is given twice.", param=path[0])
        place[key] = _unescape(value)
    return params


def allow(params, names):
    """Refuse every parameter that is not one of `names`."""
    for name in params:
        if name not in names:
            raise ParamError("Received unknown parameter: %s" % name, "parameter_unknown", name)


def text(params, name, required=False):
    """A string of 1 to 100 characters, or None."""
    value = params.get(name)
    if value is None:
        if required:
            raise ParamError("Missing required param: %s." % name, "parameter_missing", name)
        return None
    if isinstance(value, dict):
        raise ParamError("Invalid string: %s" % name, None, name)
    if value == "":
        raise ParamError(
            "You passed an empty string for '%s'. We assume empty values are an attempt to unset a parameter; however "
            "'%s' cannot be unset." % (name, name),
            "parameter_invalid_empty",
            name,
        )
    if len(value) > TEXT_MAX:
        raise ParamError("Invalid string: %s...; must be at most %d characters" % (value[:10], TEXT_MAX), None, name)
    return value


def integer(params, name, required=False):
    """A decimal integer, or None."""
    value = params.get(name)
    if value is None:
        if required:
            raise ParamError("Missing required param: %s." % name, "parameter_missing", name)
        return None
    if isinstance(value, dict) or not INTEGER.fullmatch(value):
        raise ParamError(
            "Invalid integer: %s" % (name if isinstance(value, dict) else value[:40]), "parameter_invalid_integer", name
        )
    return int(value)


def flat_map(params, name):
    """A required map from names to strings of at most 100 characters."""
    value = params.get(name)
    if value is None:
        raise ParamError("Missing required param: %s." % name, "parameter_missing", name)
    if not isinstance(value, dict):
        raise ParamError("Invalid object", None, name)
    for key, item in value.items():
        if isinstance(item, dict):
            raise ParamError(
                "Invalid string: the values of %s are strings" % name, None, "%s[%s]" % (name, key[:TEXT_MAX])
            )
        if len(item) > TEXT_MAX or len(key) > TEXT_MAX:
            raise ParamError(
                "Invalid string: must be at most %d characters" % TEXT_MAX, None, "%s[%s]" % (name, key[:TEXT_MAX])
            )
    return value
