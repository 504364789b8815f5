"""A check that finds nothing proves nothing: every rule of tests/check-source is shown something that breaks it, and something that does not."""
import importlib.machinery
import importlib.util
import os
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))


def load():
    loader = importlib.machinery.SourceFileLoader("check_source", os.path.join(HERE, "check-source"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("check_source", loader))
    loader.exec_module(module)
    return module


check_source = load()
GUARD = "#ifndef X_H\n#define X_H\n\n"

# (path, text, part of the sentence, or None for nothing found)
CASES = [
    ("common/x.c", "int f(void) { strcpy(a, b); }\n", "strcpy() is banned"),
    ("common/x.c", "/* strcpy(a, b) */ int f(void) { return g(\"strcpy(\"); }\n", None),
    ("common/x.c", "int f(void) { return io->system(1) + my_system(2); }\n", None),
    ("common/x.c", "int f(void) { return brand(1); }\n", None),
    ("common/x.c", "int f(void) { return system (\"x\"); }\n", "system() is banned"),
    ("common/x.c", "typedef struct x { int y; } x;\n", "no typedef"),
    ("common/x.c", "typedef enum e f(int);\n", None),
    ("common/x.c", "void f(void) { assert(i++ < 3); }\n", "side effect"),
    ("common/x.c", "void f(void) { assert(status == 0 && x <= y); }\n", None),
    ("aggregator/api/x.c", "double x;\n", "double on the path"),
    ("aggregator/api/x.c", "/* never a double */ const char *t = \"double\";\n", None),
    ("aggregator/api/x.c", "void f(void) { json_real(1); }\n", "json_real on the path"),
    ("bench/x.c", "double x;\n", None),
    ("proto/x.c", "#include <unistd.h>\n", "pure module includes <unistd.h>"),
    ("proto/x.c", "#include \"common/log.h\"\n", "pure module includes"),
    ("proto/x.c", "#include \"sandglass/time.h\"\n#include <stdio.h>\n", None),
    ("proto/x.c", "void f(void) { printf(\"x\"); }\n", "pure module uses printf"),
    ("proto/x.h", GUARD + "/* x */\nvoid f(const char *, ...) __attribute__((format(printf, 1, 2)));\n\n#endif\n", None),
    ("collector/x.c", "#include <unistd.h>\n", None),
    ("collector/x.c", "uint32_t h = 0x6A09E667;\n", "a hash of its own"),
    ("collector/x.c", "void f(void) { send(\"GET / HTTP/1.1\\r\\n\"); }\n", "HTTP of its own"),
    ("collector/x.c", "void f(void) { json_parse(x); }\n", "a parser of its own"),
    ("tests/unit/x.c", "void f(void) { send(\"GET / HTTP/1.1\\r\\n\"); }\n", None),
    ("common/x.h", GUARD + "void f(void);\n\n#endif\n", "exported and not documented: void f"),
    ("common/x.h", GUARD + "/* Does it. */\nvoid f(void);\n\n#endif\n", None),
    ("common/x.h", GUARD + "void f(void); /* does it */\n\nvoid g(void);\n\n#endif\n", "exported and not documented: void g"),
    ("common/x.h", GUARD + "/* A pair. */\nvoid f(void);\nvoid g(void);\n\n#endif\n", None),
    ("common/x.h", GUARD + "/* One. */\nvoid f(void);\n\nvoid g(void);\n\n#endif\n", "exported and not documented: void g"),
    ("common/x.h", GUARD + "struct x {\n    int (*call)(void);\n};\nextern int y;\n\n#endif\n", "exported and not documented: extern int y"),
    ("common/x.h", GUARD + "static inline int f(void)\n{\n    return 1;\n}\n\n#endif\n", "exported and not documented: static inline int f"),
    ("common/x.c", "int x;\n" * 601, "longer than 600 lines"),
    ("common/x.c", "int f(void)\n{\n" + "    g();\n" * 71 + "}\n", "a function of 71 lines"),
    ("common/x.c", "int f(void)\n{\n" + "    g();\n" * 70 + "}\n", None),
    ("deploy/x.sh", "cd /" + "work/main\n", "a path of one machine"),
    ("deploy/x.sh", "cd /" + "home/someone/x\n", "a path of one machine"),
    ("deploy/x.sh", "cd $PWD/" + "work/x; ls net/" + "work/\n", None),
    ("README.md", "TO" + "DO: more\n", "finish it"),
    ("README.md", "mkstemp(\"/tmp/a." + "X" * 6 + "\")\n", None),
    ("README.md", "no newline", "no newline at the end"),
]


class Rules(unittest.TestCase):
    def test_every_rule_finds_what_breaks_it_and_nothing_else(self):
        for path, text, expected in CASES:
            found = [sentence for _, sentence in check_source.check_file(path, text)]
            with self.subTest(path=path, text=text[:60]):
                if expected is None:
                    self.assertEqual(found, [])
                else:
                    self.assertTrue(any(expected in sentence for sentence in found), found)

    def test_lines_are_those_of_the_file(self):
        self.assertEqual(check_source.check_file("common/x.c", "/* a\n b */\n\nint x = atoi(\"1\");\n"), [(4, "atoi() is banned")])

    def test_formatting_is_checked(self):
        import tempfile
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(HERE, "..", ".clang-format"), encoding="utf-8") as style:
                with open(os.path.join(folder, ".clang-format"), "w", encoding="utf-8") as copy:
                    copy.write(style.read())
            with open(os.path.join(folder, "x.c"), "w", encoding="utf-8") as f:
                f.write("int x  =1;\n")
            self.assertEqual([(path, line) for path, line, _ in check_source.check_format(folder, ["x.c"])][0], ("x.c", 1))

    def test_a_pure_module_that_was_renamed_is_missed(self):
        import tempfile
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(os.path.join(folder, "collector"))
            with open(os.path.join(folder, "collector", "metre.c"), "w", encoding="utf-8") as f:
                f.write("int x;\n")
            found, _ = check_source.check_tree(folder)
            self.assertIn(("tests/check-source", 0, "no file matches the pure module collector/meter.c"), found)


if __name__ == "__main__":
    unittest.main()
