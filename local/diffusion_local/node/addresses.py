"""The addresses that a node gives to its pods."""

import ipaddress

RESERVED = 2
"""The network's own address and the node's."""


class NoAddressLeft(Exception):
    """Every address of the node's range is taken."""


class Addresses:
    """Hands out addresses in turn, so that one that was just given back is not reused at once."""

    def __init__(self, cidr: str) -> None:
        self.network = ipaddress.ip_network(cidr)
        self.taken: set[str] = set()
        self.last = RESERVED - 1

    def take(self) -> str:
        """A free address; NoAddressLeft when there is none."""
        usable = self.network.num_addresses - 1 - RESERVED
        for _ in range(usable):
            self.last = RESERVED + (self.last - RESERVED + 1) % usable
            address = str(self.network[self.last])
            if address not in self.taken:
                self.taken.add(address)
                return address
        raise NoAddressLeft(f"no address is left in {self.network}")

    def give_back(self, address: str) -> None:
        """A pod is gone."""
        self.taken.discard(address)
