"""From DICOM to cached slices, and synthetic data to try it on. No torch below here."""
