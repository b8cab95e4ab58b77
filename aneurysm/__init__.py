"""Code that all scripts share, to find intracranial aneurysms in head scans."""
