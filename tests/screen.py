"""A terminal in memory, whose screen can be read."""

import io
import re

CODE = re.compile(r"\x1b\[(\??\d*(?:;\d+)*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


class Terminal(io.StringIO):
    """A terminal that obeys the codes which go back, up, and erase a line."""

    def isatty(self):
        return True

    @property
    def screen(self):
        """The lines that are visible at the end."""
        lines, row, column = [""], 0, 0
        for number, code, back, down, text in CODE.findall(self.getvalue()):
            if back:
                column = 0
            elif down:
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            elif code == "A":
                row -= int(number or 1)
            elif code == "K":
                assert number == "2", number
                lines[row] = ""
            elif text:
                lines[row] = (
                    lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
                )
                column += len(text)
        return [line for line in lines if line.strip()]
