"""What gateways do, as functions over the registry that keep nothing in memory: any number of gateways may run them."""
