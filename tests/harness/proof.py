"""The proof: what the fleet knows it was acked, what the rollups say, what Stripe would bill, and what is pending, to the unit.

Four independent books: the fleet's own arithmetic (its --expect file), the command line's answer, the double's dump, and `reconcile`. They are
compared hour by hour, so that an error in one place can not hide behind one in another; minutes must add up to their hours, hours to their
days. The table shows the sums.
"""
import dataclasses
import datetime
import json

from . import config, settle

HOUR_S, DAY_S = 3600, 86400


@dataclasses.dataclass
class Line:
    """One meter."""
    meter: str
    accepted: int
    rolled_up: int
    billed: int
    pending: int
    lost: int = 0
    double: int = 0

    @property
    def exact(self):
        """Whether the equation holds."""
        return not self.lost and not self.double and self.accepted == self.rolled_up == self.billed + self.pending


@dataclasses.dataclass
class Proof:
    """The result: a line per meter, and every difference found."""
    lines: list
    differences: list
    windows: int
    values: int

    @property
    def exact(self):
        """Whether everything is equal."""
        return not self.differences and all(line.exact for line in self.lines)


def seconds(text):
    """Unix seconds of a time in an answer (RFC 3339)."""
    if isinstance(text, int):
        return text
    return int(datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp())


def load_expected(paths):
    """{(team, project, region, hour): {field: value}} over the --expect files of one or more fleets."""
    expected = {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for row in json.load(file)["hours"]:
                window = expected.setdefault((row["team"], row["project"], row["region"], row["start"]), {})
                for field, value in row["fields"].items():
                    window[field] = window.get(field, 0) + value
    return expected


def load_rolled_up(pipeline, teams, first, end, step="hour"):
    """The same from `sandglass usage`, of windows of another length too."""
    rolled_up = {}
    for team in sorted(teams):
        for row in pipeline.cli_lines("usage", team, "--from", str(first), "--to", str(end), "--step", step, "--json"):
            place = (team, row.pop("project"), row.pop("region"), seconds(row.pop("start")))
            rolled_up[place] = {field: value for field, value in row.items() if isinstance(value, int) and value}
    return rolled_up


def _added_up(windows, length_s):
    """Windows, added up to longer ones."""
    total = {}
    for (team, project, region, start), fields in windows.items():
        window = total.setdefault((team, project, region, start - start % length_s), {})
        for field, value in fields.items():
            window[field] = window.get(field, 0) + value
    return total


def _compare_steps(minutes, hours, days, differences):
    """Every rollup is kept three times: all must say the same. Hours are those of which there are minutes, and all others."""
    for step, parts, whole in (("hour", _added_up(minutes, HOUR_S), hours[0]), ("day", _added_up({**hours[0], **hours[1]}, DAY_S), days)):
        differences.extend("%s %s %s %d: the %s says %s, its parts %s" % (*place, step, whole.get(place), parts.get(place))
                           for place in sorted(set(parts) | set(whole)) if parts.get(place) != whole.get(place))


def _compare_windows(expected, rolled_up, lines, differences):
    values = 0
    for place in sorted(set(expected) | set(rolled_up)):
        want, have = expected.get(place, {}), rolled_up.get(place, {})
        for field in sorted(set(want) | set(have)):
            values += 1
            gap = have.get(field, 0) - want.get(field, 0)
            if gap:
                differences.append("%s %s %s %d %s: accepted %d, rolled up %d"
                                   % (*place, field, want.get(field, 0), have.get(field, 0)))
            if field in lines:
                lines[field].lost += max(0, -gap)
                lines[field].double += max(0, gap)
    return values


def _closed_hours(pipeline, teams):
    """{(team, hour)} of the rollups that are closed by their shard's watermark."""
    state = settle.shards(pipeline)
    return {(team, hour) for number, team, hour in settle.hour_rollups(pipeline, teams) if state[number].closed(hour)}


def _compare_bills(expected, customers, closed, billed, lines, differences):
    """Every closed hour of a team with a customer must be billed exactly, and nothing else at all; the rest is pending, exactly."""
    due, pending = {}, dict.fromkeys(lines, 0)
    for (team, _project, _region, hour), fields in expected.items():
        for meter in lines:
            if team in customers and (team, hour) in closed:
                place = (customers[team], meter, hour)
                due[place] = due.get(place, 0) + fields.get(meter, 0)
            else:
                pending[meter] += fields.get(meter, 0)
    for place in sorted(set(due) | set(billed)):
        gap = billed.get(place, 0) - due.get(place, 0)
        if gap:
            differences.append("%s %s hour %d: accepted %d, billed %d" % (*place, due.get(place, 0), billed.get(place, 0)))
            lines[place[1]].lost += max(0, -gap)
            lines[place[1]].double += max(0, gap)
    for meter, line in lines.items():
        if line.pending != pending[meter]:
            differences.append("%s: reconcile says %d pending, it is %d" % (meter, line.pending, pending[meter]))


def prove(pipeline, expect_files, customers, minutes_from=0):
    """Compare all books of a settled pipeline; `customers` is {team: customer}. Minutes of hours that begin before minutes_from are left out:
    an archive has none, and there are many."""
    expected = load_expected(expect_files)
    hours, teams = [place[3] for place in expected], {place[0] for place in expected}
    first, end = min(hours) // DAY_S * DAY_S, (max(hours) // DAY_S + 1) * DAY_S
    rolled_up = load_rolled_up(pipeline, teams, first, end)
    billed, told = pipeline.billed(), pipeline.reconcile()
    pending = {row["meter"]: row["pending"] for row in told["meters"]}
    lines, differences = {}, [str(row) for row in told["differences"]]
    for meter, _ in config.METERS:
        lines[meter] = Line(meter, sum(fields.get(meter, 0) for fields in expected.values()),
                            sum(fields.get(meter, 0) for fields in rolled_up.values()),
                            sum(value for (_, name, _), value in billed.items() if name == meter), pending.get(meter, 0))
    values = _compare_windows(expected, rolled_up, lines, differences)
    minutes_from = max(first, minutes_from)
    minutes = load_rolled_up(pipeline, teams, minutes_from, end, "minute") if minutes_from < end else {}
    with_minutes = {place: fields for place, fields in rolled_up.items() if place[3] >= minutes_from}
    rest = {place: fields for place, fields in rolled_up.items() if place[3] < minutes_from}
    _compare_steps(minutes, (with_minutes, rest), load_rolled_up(pipeline, teams, first, end, "day"), differences)
    _compare_bills(expected, customers, _closed_hours(pipeline, customers), billed, lines, differences)
    for row in told["meters"]:
        line = lines.get(row["meter"])
        for column in ("accepted", "rolled_up", "billed"):
            if line is not None and row[column] != getattr(line, column):
                differences.append("reconcile says %s %s %d, it is %d" % (row["meter"], column, row[column], getattr(line, column)))
    if not told["ok"]:
        differences.append("reconcile is not ok")
    return Proof(list(lines.values()), differences, len(set(expected) | set(rolled_up)), values)


def table(proof):
    """The proof as text."""
    columns = ("meter", "accepted", "rolled_up", "billed", "pending", "lost", "double")
    rows = [columns] + [tuple(format(value, ",") if isinstance(value, int) else value
                              for value in (getattr(line, column) for column in columns)) for line in proof.lines]
    rows[0] = tuple(column.replace("_", " ") for column in columns)
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    text = ["  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths)))
            for row in rows]
    verdict = "accepted = rolled up = billed + pending, to the unit" if proof.exact else "NOT EQUAL: %d differences" % len(proof.differences)
    text.append("%s (%s values in %s hourly windows compared)" % (verdict, format(proof.values, ","), format(proof.windows, ",")))
    return "\n".join(text + ["  " + difference for difference in proof.differences[:20]])
