"""Refusals in Stripe's words and form. Exact, as far as they have been seen, are the texts of a duplicate, of a
timestamp too old, of too many digits and of a reused idempotency key; the others are plausible, and nobody should
match them."""

import json
from email.utils import formatdate

IDEMPOTENCY_TEXT = (
    "Keys for idempotent requests can only be used with the same parameters they were first used with. "
    "Try using a key other than '%s' if you meant to execute a different request."
)


class Refusal(Exception):
    """An error reply: status, body (bytes) and header fields."""

    def __init__(self, status, message, kind="invalid_request_error", code=None, param=None, headers=()):
        super().__init__(status)
        error = {"type": kind, "message": message}
        error.update({name: value for name, value in (("code", code), ("param", param)) if value is not None})
        self.status, self.body, self.headers = status, json.dumps({"error": error}).encode(), list(headers)


class ParamError(Refusal):
    """A 400 about the shape of a parameter."""

    def __init__(self, message, code=None, param=None):
        super().__init__(400, message, code=code, param=param)


class Duplicate(Refusal):
    """The refusal of a known identifier: no code, and not to be retried."""

    def __init__(self, identifier):
        text = "An event already exists with identifier %s." % identifier
        super().__init__(400, text, headers=[("Stripe-Should-Retry", "false")])


def no_key():
    """401: the request names no key."""
    return Refusal(
        401,
        "You did not provide an API key. You need to provide your API key in the Authorization header, "
        "using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').",
    )


def bad_key():
    """401: not a key, or not any more."""
    return Refusal(401, "Invalid API Key provided.")


def forbidden(scope):
    """403: a restricted key without the scope."""
    return Refusal(
        403,
        "The provided key does not have the required permissions for this endpoint. Having the '%s' permission "
        "would allow this request to continue." % scope,
    )


def rate_limited(reason, now_s, retry_after=None):
    """429 of a limiter; retry_after: seconds, "date" (two seconds from now), or None."""
    headers = [("Stripe-Rate-Limited-Reason", reason)]
    if retry_after == "date":
        headers.append(("Retry-After", formatdate(now_s + 2, usegmt=True)))
    elif retry_after is not None:
        headers.append(("Retry-After", str(retry_after)))
    text = "Request rate limit exceeded. You can learn more about rate limits here https://stripe.com/docs/rate-limits."
    return Refusal(429, text, code="rate_limit", headers=headers)


def too_many_concurrent():
    """409: the other answer to a second call in flight."""
    text = "Too many concurrent requests for this meter and customer."
    return Refusal(409, text, code="too_many_concurrent_requests")


def lock_timeout():
    """429 without a limiter's reason."""
    return Refusal(
        429,
        "This object cannot be accessed right now because another API request or Stripe process is currently "
        "accessing it.",
        code="lock_timeout",
    )


def key_in_use():
    """409: the first request of the idempotency key is not done."""
    return Refusal(
        409,
        "There is currently another in-progress request using this Idempotent Key (that probably means you "
        "submitted twice, and the other request is still going through). Please try again later.",
        code="idempotency_key_in_use",
    )


def other_parameters(key):
    """400: the idempotency key belongs to another request."""
    return Refusal(400, IDEMPOTENCY_TEXT % key, kind="idempotency_error")


def redirect():
    """301 to where nobody listens: it must not be followed."""
    return Refusal(301, "Moved.", headers=[("Location", "http://127.0.0.1:9/")])


def too_old(limit_s, bound_s):
    """400: the timestamp is below the bound."""
    return Refusal(
        400,
        "The event timestamp cannot be more than %d days in past. "
        "Expected a timestamp greater than or equal to %d." % (limit_s // 86400, bound_s),
        param="timestamp",
    )


def too_new(limit_s, bound_s):
    """400: the timestamp is above the bound."""
    return Refusal(
        400,
        "The event timestamp cannot be more than %d minutes in the future. "
        "Expected a timestamp less than or equal to %d." % (limit_s // 60, bound_s),
        param="timestamp",
    )


def bad_value(message):
    """400: the value of the payload is missing or not a number that is taken."""
    return Refusal(400, message, param="payload[value]")


def no_customer(customer):
    """400: the customer does not exist."""
    text = "No such customer: '%s'" % customer
    return Refusal(400, text, code="resource_missing", param="payload[stripe_customer_id]")
