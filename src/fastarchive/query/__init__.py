"""Questions to the archive: an identifier is validated, planned, run page by page and answered.

``identifier`` reads what was asked, ``plan`` decides how to find it, ``execute`` finds it, ``respond`` encodes each
answer, ``retrieve`` lists the instances of a C-MOVE or C-GET, ``keywords`` does all of it for a command line.
"""
