"""What the archive holds, found by its attributes: one Tantivy index, and over it the part of the log it misses."""
