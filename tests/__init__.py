"""Tests; synthetic data only, but for real DICOM files that lie beside the project and are skipped where absent."""
