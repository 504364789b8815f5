"""Where things are: the repository, the state folder, the built programs, Kafka's jars."""
import os

from .process import HarnessError

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
STATE = os.environ.get("SANDGLASS_STATE") or os.path.join(ROOT, ".state")
BUILD = os.environ.get("SANDGLASS_BUILD") or os.path.join(ROOT, "build/release")
KAFKA_JARS = os.environ.get("SANDGLASS_KAFKA_JARS") or os.path.join(STATE, "kafka-jars")
PYTHON = "/usr/bin/python3"
STRIPE_DOUBLE = os.path.join(ROOT, "tests/stripe/stripe_double.py")
PRICE_BOOK = os.path.join(ROOT, "deploy/price-book.json")

_FOLDERS = {
    "sandglass-collector": "collector",
    "sandglass-aggregator": "aggregator/rollup",
    "sandglass-exporter": "aggregator/billing",
    "sandglass-api": "aggregator/api",
    "sandglass": "aggregator/ctl",
    "sandglass-fleet": "tests/fleet",
    "libsandglass-skew.so": "tests/skew",
}


def program(name):
    """The path of a built program."""
    path = os.path.join(BUILD, _FOLDERS[name], name)
    if not os.access(path, os.X_OK):
        raise HarnessError("%s is not built" % path)
    return path
