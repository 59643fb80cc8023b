"""What a run trains on, and in which order.

Imports `spec`, numpy, fsspec, pyarrow and Pillow; never torch. Begin with `order` (the Order law: which samples form
which microbatch), then `fingerprint` (the name of the data in that law).
"""

from springtide.data.fingerprint import fingerprint
from springtide.data.order import Order, OrderLike, checksum

__all__ = ["Order", "OrderLike", "checksum", "fingerprint"]
