"""Finding intracranial aneurysms in head angiography: what all scripts share."""
