"""Phantoms: synthetic head angiograms with aneurysms, in the competition's layout or as training windows."""
