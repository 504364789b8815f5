"""One screen of text, redrawn in place on a terminal; elsewhere a plain line now and then."""
import shutil
import sys
import time

PLAIN_PAUSE_S = 5


class Screen:
    """Draws blocks of lines over each other."""

    def __init__(self, out=sys.stdout):
        self.out, self.tty, self.drawn, self.plain_at = out, out.isatty(), 0, 0.0

    def draw(self, lines, plain):
        """Show these lines; where there is no terminal, `plain` at most every few seconds."""
        if not self.tty:
            if time.monotonic() - self.plain_at >= PLAIN_PAUSE_S:
                self.plain_at = time.monotonic()
                print(plain, file=self.out, flush=True)
            return
        width = shutil.get_terminal_size().columns
        up = "\x1b[%dA" % self.drawn if self.drawn else ""
        self.out.write(up + "".join("\r\x1b[2K%s\n" % line[:width] for line in lines) + "\x1b[J")
        self.out.flush()
        self.drawn = len(lines)

    def say(self, text):
        """A line that stays."""
        print(text, file=self.out, flush=True)
        self.drawn = 0


def bar(part, whole, width=40):
    """A progress bar."""
    filled = width if whole <= 0 else min(width, part * width // whole)
    return "[" + "#" * filled + "." * (width - filled) + "]"
