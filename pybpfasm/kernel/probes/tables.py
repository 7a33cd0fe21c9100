"""All probes as tables, and their answers as plain values."""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from pybpfasm.errors import BpfError
from pybpfasm.kernel import features
from pybpfasm.kernel.features import FEATURES, MAP_TYPES, Feature
from pybpfasm.kernel.probes.attach_types import ATTACH_TYPES
from pybpfasm.kernel.probes.context_stores import CONTEXT_STORES
from pybpfasm.kernel.probes.instructions import INSTRUCTIONS
from pybpfasm.kernel.probes.link_types import LINK_TYPES
from pybpfasm.kernel.probes.program_types import PROGRAM_TYPES
from pybpfasm.records import frozen

# Rows by the names that they have in uapi, or by those of the features.
TABLES: Mapping[str, Mapping[str, Feature]] = MappingProxyType(
    {
        "program types": {each.name.lower(): feature for each, feature in PROGRAM_TYPES.items()},
        "map types": {each.name.lower(): feature for each, feature in MAP_TYPES.items()},
        "attach types": {each.name.lower(): feature for each, feature in ATTACH_TYPES.items()},
        "link types": {each.name.lower(): feature for each, feature in LINK_TYPES.items()},
        "instructions": {each.name: each for each in INSTRUCTIONS},
        "context stores": {each.name: each for each in CONTEXT_STORES},
        "features": {
            each.name: each
            for each in (
                *FEATURES,
                *(each for each in vars(features).values() if isinstance(each, Feature) and each not in FEATURES),
            )
        },
    }
)


@frozen
class Answer:
    """What the kernel says of a feature: it has it, it has not (`reason`: its words), or None: it does not say (why).

    `since` is the Linux version that the feature came in.
    """

    supported: bool | None
    since: str
    reason: str = ""


def probe(feature: Feature) -> Answer:
    """Ask for one feature; never raises `BpfError`."""
    try:
        refusal = feature.refusal()
    except BpfError as error:
        return Answer(None, feature.since, str(error))
    return Answer(refusal is None, feature.since, refusal or "")


def all_features() -> Iterator[Feature]:
    """Each feature of the tables once."""
    rows: Iterable[Feature] = (feature for table in TABLES.values() for feature in table.values())
    yield from dict.fromkeys(rows)
