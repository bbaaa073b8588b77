"""Functions that start, answer and stop: one that trains for a client, and one that answers with a model.

Their processes import little: from their start to a first answer passes no more time than a platform that scales to zero
can give.
"""
