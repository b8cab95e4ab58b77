"""Codes for findings in DICOM objects: SNOMED CT where it has one, else the project's own scheme."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from aneurysm.labels import LOCATIONS, PRESENT

SCHEME = "99ANEURYSM"  # a name that begins with 99 is private (DICOM PS3.16 section 8.2)
SCHEME_NAME = "Locations of the RSNA Intracranial Aneurysm Detection challenge"
MANUFACTURER = "aneurysm, open-source project"
MODEL_NAME = "aneurysm"
NOTICE = "research use only, not a medical device"

INTRACRANIAL_ANEURYSM = Code("128609009", "SCT", "Intracranial aneurysm")
ANEURYSM_MORPHOLOGY = codes.SCT.Aneurysm
ABNORMAL_STRUCTURE = codes.SCT.MorphologicallyAbnormalStructure
PROBABILITY = codes.DCM.Probability
LOCATION = Code("LOCATION", SCHEME, "Location in the RSNA challenge")

_ICA = codes.SCT.InternalCarotidArtery
_INFRACLINOID = Code("INFRACLINOID", SCHEME, "Infraclinoid")
_SUPRACLINOID = Code("SUPRACLINOID", SCHEME, "Supraclinoid")
_TIP = Code("TIP", SCHEME, "Tip")
_OTHER_POSTERIOR = Code("OTHER-POSTERIOR", SCHEME, "Other Posterior Circulation")
_ARTERIES = {
    "Infraclinoid Internal Carotid Artery": (_ICA, _INFRACLINOID),
    "Supraclinoid Internal Carotid Artery": (_ICA, _SUPRACLINOID),
    "Middle Cerebral Artery": (codes.SCT.MiddleCerebralArtery, None),
    "Anterior Communicating Artery": (codes.SCT.AnteriorCommunicatingArtery, None),
    "Anterior Cerebral Artery": (codes.SCT.AnteriorCerebralArtery, None),
    "Posterior Communicating Artery": (codes.SCT.PosteriorCommunicatingArtery, None),
    "Basilar Tip": (codes.SCT.BasilarArtery, _TIP),
    "Other Posterior Circulation": (_OTHER_POSTERIOR, None),
    PRESENT: (codes.SCT.Intracranial, None),
}
_SIDES = {"Left ": codes.SCT.Left, "Right ": codes.SCT.Right}


@dataclass(frozen=True)
class Site:
    """The anatomy of a label: an artery, its side if it is one of a pair, and the part of it."""

    artery: Code
    side: Code | None
    part: Code | None


def site_of(label: str) -> Site:
    """The site of one of LABELS; for Aneurysm Present it is "intracranial"."""
    start = next((start for start in _SIDES if label.startswith(start)), "")
    artery, part = _ARTERIES[label.removeprefix(start)]
    return Site(artery, _SIDES.get(start), part)


def location_code(location: str) -> Code:
    """The project's own code of one of LOCATIONS: its number in them, counted from 1, and its name."""
    return Code(f"LOCATION-{LOCATIONS.index(location) + 1}", SCHEME, location)


def tracking_uid(series_uid: str, what: str) -> str:
    """A UID that depends only on the series and `what`, so that a report and a segmentation can be matched."""
    return generate_uid(entropy_srcs=[series_uid, what])
