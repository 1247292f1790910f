"""The load harness: synthetic scanners, and the same work given to several DICOM archives in one run."""
