"""What the DICOM Standard says about data: pure functions without sockets, clocks, threads or changing globals."""
