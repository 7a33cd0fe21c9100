"""Taking the datapath away, with what lies outside the pins: routes in ztunnels' namespaces, tc filters."""

from pathlib import Path

import programs.maps as layouts
from merbridge.datapath.device_links import remove_filters
from merbridge.datapath.pins import Pins
from merbridge.datapath.routes import forget_routes_of
from merbridge.errors import MerbridgeError
from merbridge.watchers.netns import NetnsGoneError, in_netns_of, read_netns
from pybpfasm.errors import BpfError
from pybpfasm.kernel import Map, TypedMap, features


def remove_everything(pins: Pins, proc: Path, host_pid: int) -> int:
    """Detach and forget everything; how many pins there were.

    Raises `MerbridgeError` while an agent runs, or where the privilege is missing.
    """
    ztunnels = _ztunnel_cookies(pins)
    removed = pins.remove()
    forget_routes_of(ztunnels, proc)
    if removed and not features.TCX_LINK.supported():
        try:
            in_netns_of(read_netns(host_pid, proc), proc, remove_filters)
        except NetnsGoneError:
            raise MerbridgeError(
                f"{proc}: process {host_pid} has ended: see --host-pid; tc filters are left at pods' devices"
            ) from None
    return removed


def _ztunnel_cookies(pins: Pins) -> frozenset[int]:
    """The namespaces of the ztunnels that were sent to."""
    try:
        with Map.open_any_size(pins.maps / "places", layouts.places.spec("places")) as opened:
            known = TypedMap(layouts.places, opened).read_all().values()
    except BpfError:
        return frozenset()  # none, or an earlier version's
    return frozenset(each.netns_cookie for each in known if each.flags & layouts.IS_ZTUNNEL)
