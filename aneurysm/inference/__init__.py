"""From a folder of DICOM files to the 14 probabilities, without a cache: the only place where the stages meet."""
