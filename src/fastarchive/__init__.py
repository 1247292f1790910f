"""fastarchive: a DICOM archive that keeps what it acknowledged and answers at once."""

__version__ = "0.1.0"
