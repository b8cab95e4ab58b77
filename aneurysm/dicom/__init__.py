"""From a folder of DICOM files to one series: pixels in physical units, with their geometry."""
