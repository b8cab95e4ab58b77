"""Detection of intracranial aneurysms in head angiography; the code shared by all scripts."""
