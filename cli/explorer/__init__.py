"""A browser of an image's tables, for a terminal.

tables, paging   the tables as rows, read one at a time     search   from an address to the entry that decides
wording          an entry in a few words, and bit by bit    hexdump  a page as people read it
history          where the browser is, and was          style    how it looks
app, screens, devices    what is on the screen (needs textual; the others do not)
"""
