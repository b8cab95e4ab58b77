"""The 13 locations as radiologists abbreviate them, for figures with little room."""

from aneurysm.labels import LOCATIONS

_ABBREVIATIONS = (
    ("Left ", "L "), ("Right ", "R "), ("Infraclinoid", "infraclinoid"), ("Supraclinoid", "supraclinoid"),
    ("Internal Carotid Artery", "ICA"), ("Middle Cerebral Artery", "MCA"), ("Anterior Cerebral Artery", "ACA"),
    ("Anterior Communicating Artery", "ACom"), ("Posterior Communicating Artery", "PCom"),
    ("Basilar Tip", "Basilar tip"), ("Other Posterior Circulation", "Other posterior"),
)  # fmt: skip


def short_name(label: str) -> str:
    """`Left Middle Cerebral Artery` -> `L MCA`; other text is returned unchanged."""
    if label not in LOCATIONS:
        return label
    for long, short in _ABBREVIATIONS:
        label = label.replace(long, short)
    return label
