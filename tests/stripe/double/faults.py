"""Scripted faults: {"seed": N, "rules": [{match..., when..., "effect": NAME, parameters...}, ...]}.

Asked stage by stage (STAGES), the first rule that matches and is due fires; the rules after it do not count the
request. Every rule has its own random generator, seeded by (seed, its number), so its decisions depend on nothing but
the requests that it matched. Unknown words are refused, never ignored.

match   method, path, customer, event_name, identifier, identifier_prefix: all optional; equal, or a prefix
when    nth (only the nth match, from 1), from (from the nth on), every (every k-th), probability (0..1),
        times (fire at most so often): all optional, all must hold
delays  delay_before_ms, delay_after_ms: with any effect that knows the body: wait before / after the commit
"""

import random

MATCH = {"method", "path", "customer", "event_name", "identifier", "identifier_prefix"}
WHEN = {"nth": int, "from": int, "every": int, "times": int, "probability": (int, float)}
DELAYS = {"delay_before_ms": int, "delay_after_ms": int}
BODY_MATCH = {"customer", "event_name", "identifier", "identifier_prefix"}
COMMIT = ("before", "after")

# effect: (phase, {parameter: (default, allowed values or type)})
# Phases: accept and head come before the request is read; gate stands where the limiters stand: nothing is executed;
# execute changes what is done and is asked only for a POST that is executed, not for a replay or a GET; reply is asked
# for every call that passed the checks.
EFFECTS = {
    "drop": ("accept", {}),  # RST as soon as the client has connected
    "reset_unread": ("head", {}),  # RST before the body is read
    "rate_limited": (
        "gate",
        {"retry_after": (None, "any"), "reason": ("global-rate", str)},
    ),  # 429; retry_after: seconds | "date" | null
    "lock_timeout": ("gate", {}),  # 429 without a reason
    "unauthorized": ("gate", {}),  # 401
    "forbidden": ("gate", {}),  # 403
    "in_use": ("gate", {}),  # 409 idempotency_key_in_use
    "idempotency_error": ("gate", {}),  # 400
    "redirect": ("gate", {}),  # 301
    "lost": ("execute", {}),  # 200, the identifier is used, nothing counts
    "foreign_duplicate": ("execute", {}),  # duplicate, although never received
    "no_customer": ("execute", {}),  # 400 No such customer
    "deactivate_meter": ("execute", {}),  # for good (until POST /control/meter)
    "none": ("reply", {}),  # only the delays
    "error": (
        "reply",
        {"status": (500, int), "commit": ("before", COMMIT), "cached": (True, bool), "should_retry": (None, "any")},
    ),
    "html": (
        "reply",
        {"status": (502, int), "commit": ("after", COMMIT)},
    ),  # a proxy's page; its own reply is what Stripe keeps
    "reset": ("reply", {"commit": ("after", COMMIT)}),  # RST without a byte
    "silent": ("reply", {"commit": ("after", COMMIT)}),  # FIN without a byte
    "cut": ("reply", {"how": ("fin", ("fin", "reset"))}),  # half of the body
    "drip": ("reply", {"every_ms": (50, int)}),  # the body byte by byte
    "truncated_json": ("reply", {}),  # a whole HTTP reply, half of the JSON
    "garbage": (
        "reply",
        {
            "body": ("text", ("text", "empty", "null", "array", "huge", "binary")),
            "content_type": ("application/json", str),
        },
    ),
    "wrong_identifier": ("reply", {}),  # 200 that names another event
}
STAGES = {
    "accept": ("accept",),
    "head": ("head",),
    "gate": ("gate",),
    "work": ("execute", "reply"),
    "replay": ("reply",),
}


class BadScript(Exception):
    """The script is not understood; the text says where."""


class Fault:
    """A rule that fired, for one request."""

    __slots__ = ("effect", "phase", "params", "before_ms", "after_ms")

    def __init__(self, rule):
        self.effect, self.phase, self.params = rule.effect, rule.phase, rule.params
        self.before_ms, self.after_ms = rule.before_ms, rule.after_ms


class Rule:
    """One rule with its counters."""

    def __init__(self, number, spec, seed):
        if not isinstance(spec, dict) or spec.get("effect") not in EFFECTS:
            raise BadScript("rule %d: unknown effect" % number)
        self.effect = spec["effect"]
        self.phase, params = EFFECTS[self.effect]
        unknown = set(spec) - MATCH - set(WHEN) - set(DELAYS) - set(params) - {"effect"}
        if unknown:
            raise BadScript("rule %d: unknown word %s" % (number, sorted(unknown)[0]))
        self.match = {word: self._typed(number, spec, word, str) for word in MATCH & set(spec)}
        self.when = {word: self._typed(number, spec, word, kind) for word, kind in WHEN.items() if word in spec}
        if any(self.when[word] < 1 for word in ("nth", "from", "every") if word in self.when):
            raise BadScript("rule %d: nth, from and every count from 1" % number)
        if self.phase in ("accept", "head") and (set(self.match) & BODY_MATCH or set(DELAYS) & set(spec)):
            raise BadScript("rule %d: %s cannot wait, nor know the body" % (number, self.effect))
        self.before_ms, self.after_ms = (self._typed(number, spec, word, int) if word in spec else 0 for word in DELAYS)
        self.params = {
            name: self._param(number, spec.get(name, default), name, allowed)
            for name, (default, allowed) in params.items()
        }
        self.random = random.Random("%s:%d" % (seed, number))
        self.matched = self.fired = 0

    @staticmethod
    def _typed(number, spec, word, kind):
        if not isinstance(spec[word], kind) or isinstance(spec[word], bool):
            raise BadScript("rule %d: %s has the wrong type" % (number, word))
        return spec[word]

    @staticmethod
    def _param(number, value, name, allowed):
        good = allowed == "any" or (isinstance(value, allowed) if isinstance(allowed, type) else value in allowed)
        if not good:
            raise BadScript("rule %d: %s does not take this value" % (number, name))
        return value

    def due(self, facts):
        """Whether it fires on this request; counts the match."""
        for word, wanted in self.match.items():
            have = facts.get("identifier" if word == "identifier_prefix" else word)
            if have != wanted and not (
                word == "identifier_prefix" and isinstance(have, str) and have.startswith(wanted)
            ):
                return False
        self.matched += 1
        when, n = self.when, self.matched
        due = (
            n == when.get("nth", n)
            and n >= when.get("from", 1)
            and n % when.get("every", 1) == 0
            and self.random.random() < when.get("probability", 1)
            and self.fired < when.get("times", n)
        )
        self.fired += due
        return due


class Faults:
    """The rules in force."""

    def __init__(self, script, seed):
        if (
            not isinstance(script, dict)
            or set(script) - {"seed", "rules"}
            or not isinstance(script.get("rules", []), list)
        ):
            raise BadScript("a script is {\"seed\": N, \"rules\": [...]}")
        seed = script.get("seed", seed)
        self.rules = [Rule(number, spec, seed) for number, spec in enumerate(script.get("rules", []), 1)]
        self.by_stage = {
            stage: [rule for rule in self.rules if rule.phase in phases] for stage, phases in STAGES.items()
        }

    def pick(self, stage, facts):
        """Fault or None. `facts` holds what is known of method, path, customer, event_name and identifier."""
        for rule in self.by_stage[stage]:
            if rule.due(facts):
                return Fault(rule)
        return None

    def counts(self):
        """What each rule matched and did."""
        return [
            {"rule": number, "effect": rule.effect, "matched": rule.matched, "fired": rule.fired}
            for number, rule in enumerate(self.rules, 1)
        ]
