"""Where modules are hot: opened, verified, leased."""

from quire.pool.residency import ChainLease, Pool, PoolState

__all__ = ["ChainLease", "Pool", "PoolState"]
