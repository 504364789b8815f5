#!/usr/bin/env python3
"""Writes the copies of product sources that can take wrong turns, and turns.h with their names.

usage: turns.py ROOT OUT TURNS...   writes OUT/<file with _ for /> for each file named, and OUT/tests/sim/turns.h
       turns.py --files TURNS...    prints the files named

A list is called after the world whose schedules show its wrong turns. It holds blocks of `turn NAME FILE` (statements) or
`expr NAME FILE` (an expression), `why TEXT`, lines `-old` and lines `+new`. The old text must occur exactly once; it becomes a choice between new and old by sim_turn. Where [[...]] stands in the old
text only that part is replaced: the rest says which one is meant. Several turns may begin at the same text; several blocks of one
name are one turn, taken at several places. A block `lua NAME FILE` is of the Lua in FILE's strings: the simulated Redis replaces the
one text by the other before it compiles a script.
"""
import functools
import os
import re
import sys


def read_turns(paths):
    turns = []
    for path in paths:
        world = os.path.basename(path).removesuffix(".turns")
        for line in open(path, encoding="utf-8"):
            line = line.rstrip("\n")
            if line.startswith(("turn ", "expr ", "lua ")):
                kind, name, file = line.split()
                turns.append(dict(world=world, kind=kind, name=name, file=file, why="", old=[], new=[]))
            elif line.startswith("why "):
                turns[-1]["why"] = line[4:].strip()
            elif line[:1] in ("-", "+"):
                turns[-1]["old" if line[0] == "-" else "new"].append(line[1:])
            elif line and not line.startswith("#"):
                sys.exit("%s: what is this: %s" % (path, line))
    return turns


def choice(turn, old):
    new = "\n".join(turn["new"])
    shape = "(sim_turn == TURN_%s ? (%s) : (%s))" if turn["kind"] == "expr" else "if (sim_turn == TURN_%s) { %s } else { %s }"
    return shape % (turn["name"].upper(), new, old)


def quoted(lines):
    return '"%s"' % "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in lines)


def check_lua(root, turn):
    source = open(os.path.join(root, turn["file"]), encoding="utf-8").read()
    lua = "".join(re.findall(r'"((?:\\.|[^"\\])*)"', source)).replace("\\n", "\n")
    count = lua.count("\n".join(turn["old"]))
    if count != 1:
        sys.exit("turn %s: its old text occurs %d times in the Lua of %s" % (turn["name"], count, turn["file"]))


def write_copy(root, out, file, turns):
    path = os.path.join(root, file)
    text = open(path, encoding="utf-8").read()
    places = {}
    for turn in turns:
        marked = "\n".join(turn["old"])
        before, _, rest = marked.partition("[[") if "[[" in marked else ("", "", marked + "]]")
        old, _, after = rest.partition("]]")
        whole = before + old + after
        if text.count(whole) != 1:
            sys.exit("turn %s: its old text occurs %d times in %s" % (turn["name"], text.count(whole), file))
        places.setdefault((text.index(whole) + len(before), old), []).append(turn)
    for (at, old), here in sorted(places.items(), reverse=True):
        if text[at:at + len(old)] != old:
            sys.exit("turn %s: overlaps another" % here[0]["name"])
        text = text[:at] + functools.reduce(lambda rest, turn: choice(turn, rest), here, old) + text[at + len(old):]
    with open(os.path.join(out, file.replace("/", "_")), "w", encoding="utf-8") as copy:
        copy.write('#include "tests/sim/turns.h"\n#line 1 "%s"\n%s' % (path, text))


def write_header(out, turns):
    turns = list({t["name"]: t for t in reversed(turns)}.values())[::-1]  # the first block of a name tells why
    os.makedirs(os.path.join(out, "tests/sim"), exist_ok=True)
    with open(os.path.join(out, "tests/sim/turns.h"), "w", encoding="utf-8") as header:
        header.write("#ifndef SIM_TURNS_H\n#define SIM_TURNS_H\nextern int sim_turn;\nenum {\n    TURN_NONE,\n")
        header.writelines("    TURN_%s,\n" % t["name"].upper() for t in turns)
        header.write("    SIM_TURNS\n};\n__attribute__((unused)) static const struct {\n    const char *world, *name, *why;\n} sim_turns[] = {\n")
        header.write('    {"", "none", ""},\n')
        header.writelines('    {"%s", "%s", "%s"},\n' % (t["world"], t["name"], t["why"]) for t in turns)
        header.write("};\n__attribute__((unused)) static const struct {\n    int turn;\n    const char *old, *taken;\n} sim_lua_turns[] = {\n")
        header.write('    {TURN_NONE, "", ""},\n')
        header.writelines("    {TURN_%s, %s, %s},\n" % (t["name"].upper(), quoted(t["old"]), quoted(t["new"]))
                          for t in turns if t["kind"] == "lua")
        header.write("};\n#endif\n")


def main(arguments):
    if arguments[0] == "--files":
        print(";".join(sorted({t["file"] for t in read_turns(arguments[1:]) if t["kind"] != "lua"})), end="")
        return
    root, out, *lists = arguments
    turns = read_turns(lists)
    os.makedirs(out, exist_ok=True)
    write_header(out, turns)
    for turn in turns:
        if turn["kind"] == "lua":
            check_lua(root, turn)
    for file in sorted({t["file"] for t in turns if t["kind"] != "lua"}):
        write_copy(root, out, file, [t for t in turns if t["file"] == file and t["kind"] != "lua"])


main(sys.argv[1:])
