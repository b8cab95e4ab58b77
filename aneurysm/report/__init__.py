"""Figures, report pages, and DICOM and NIfTI output."""
