"""A Flower app whose clients add a number to the weights."""
