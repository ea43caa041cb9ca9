"""The demo: real baskets through the whole product, in a simulated world of warehouses, carriers and customers."""
