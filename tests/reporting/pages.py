"""What a page of HTML holds, as a browser would read it."""

import base64
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """The elements and texts of a page; raises where an element is not closed in its turn.

    elements : tags and attributes, in order.
    texts : by tag, the whole text of each element with that tag.
    rows : the texts of the cells of each row of a table.
    """

    def __init__(self, text):
        super().__init__()
        self.elements, self.rows, self.texts = [], [], {}
        self._open = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag not in VOID:
            self._open.append((tag, []))

    def handle_endtag(self, tag):
        opened, pieces = self._open.pop()
        assert opened == tag
        text = "".join(pieces)
        self.texts.setdefault(tag, []).append(text)
        if tag in ("th", "td"):
            self.rows[-1].append(text)

    def handle_data(self, data):
        for _, pieces in self._open:
            pieces.append(data)

    def all(self, tag):
        return [attributes for found, attributes in self.elements if found == tag]

    @property
    def pictures(self):
        """Return the bytes of each picture."""
        start = "data:image/png;base64,"
        sources = [image["src"] for image in self.all("img")]
        assert all(source.startswith(start) for source in sources)
        return [base64.b64decode(source.removeprefix(start)) for source in sources]
