"""The synthetic catalogue as a store of products that are made when they are asked for."""

from __future__ import annotations

from functools import lru_cache

from agentgym_rft.envs.webshop.goals import Wishes, read_humans, read_template
from agentgym_rft.envs.webshop.products import Product, clean_product
from agentgym_rft.envs.webshop.synth.asins import index_of
from agentgym_rft.envs.webshop.synth.catalogue import raw_human, raw_instructions, raw_product
from agentgym_rft.errors import ConfigError

_KEPT = 2048  # products that stay in memory, about 5 kB each


class SyntheticStore:
    """Products 0 to `num_products` of a seed; row = index. It holds none of them itself.

    Raises:
        ConfigError: there would be no product, or the seed is negative.
    """

    def __init__(self, num_products: int, seed: int) -> None:
        if num_products < 1 or seed < 0:
            raise ConfigError(
                f"A catalogue of {num_products} products with seed {seed} cannot be made; expected at least 1 product "
                "and a seed of 0 or more."
            )
        self._num_products = num_products
        self.seed = seed

    def __len__(self) -> int:
        return self._num_products

    def __getitem__(self, row: int) -> Product:
        if not 0 <= row < self._num_products:
            raise IndexError(row)
        return _product(self.seed, row)

    def row_of(self, asin: str) -> int:
        """Return the row of a product. Raises KeyError if there is none."""
        row = index_of(self.seed, asin)
        if row >= self._num_products:
            raise KeyError(asin)
        return row

    def wishes(self, row: int) -> Wishes:
        """Return the wishes for the product of a row."""
        if not 0 <= row < self._num_products:
            raise IndexError(row)
        entry, asked = raw_instructions(self.seed, row), raw_human(self.seed, row)
        asin = str(row)
        return Wishes(read_template(entry, asin), read_humans(asked, asin))


@lru_cache(maxsize=_KEPT)
def _product(seed: int, row: int) -> Product:
    """Return product `row`, cleaned like one of the original files. Kept here, so that stores can be pickled."""
    return clean_product(raw_product(seed, row), raw_instructions(seed, row)["attributes"])
