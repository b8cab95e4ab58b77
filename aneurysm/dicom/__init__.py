"""Reads a folder of DICOM files as one series: pixels in physical units, with their geometry."""
