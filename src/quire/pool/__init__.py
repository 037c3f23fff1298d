"""Where modules are hot: opened, verified, leased.

chain_lease   a chain in use, and how it came to be usable
residency     open modules on the host            resident   one of them
fitting       whether a version may be used, and fits the model and its chain
integrity     whether the bytes of what is in use are still those that were verified
device_room   their copies on the device, within a budget
restoring     the way there, layer by layer
streams       copies that go on meanwhile
"""

from quire.pool.chain_lease import ChainLease, Restored, Tier
from quire.pool.device_room import DeviceRoom, DeviceState, open_room
from quire.pool.integrity import ModelWatch, Watch
from quire.pool.residency import Pool, PoolState

__all__ = [
    "ChainLease",
    "DeviceRoom",
    "DeviceState",
    "ModelWatch",
    "Pool",
    "PoolState",
    "Restored",
    "Tier",
    "Watch",
    "open_room",
]
